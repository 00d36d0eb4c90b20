"""Rating studies: people judge descriptions of heads, blind, each head by exactly k of them."""
