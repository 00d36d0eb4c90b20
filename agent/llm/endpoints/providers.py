"""From a name to an endpoint: which client, which address, which API key (read from the environment only)."""

from __future__ import annotations

import os
import re
from typing import Any

from agent.errors import ExtraMissing, UnknownDescriber
from agent.llm.chat import ChatEndpoint
from agent.llm.options import ModelOptions

NO_KEY = "none"  # a server of one's own often asks for no key, but the client wants one


def open_endpoint(name: str, options: ModelOptions) -> ChatEndpoint:
    """The endpoint behind `openai:MODEL`, `local:PATH_OR_ID` or `PROVIDER:MODEL`.

    Raises UnknownDescriber, ExtraMissing.
    """
    provider, _, model = name.partition(":")
    if not provider or not model.strip():
        raise UnknownDescriber(
            "a language model needs a provider and a model", got=name, expected="such as openai:gpt-4o or local:PATH"
        )
    if provider == "openai":
        return _openai(model, options)
    if provider == "local":
        from agent.llm.endpoints.local_endpoint import LocalEndpoint

        return LocalEndpoint(model, options)
    return _langchain(provider, model, options)


def _openai(model: str, options: ModelOptions) -> ChatEndpoint:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    from agent.llm.endpoints.langchain_endpoint import OpenAIEndpoint, address_without_secrets

    address = options.base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")
    key = os.environ.get("OPENAI_API_KEY") or ""
    if not key and not address:
        raise UnknownDescriber(
            "no key and no address for an OpenAI-compatible model",
            next_step="Set OPENAI_API_KEY, or OPENAI_BASE_URL for your own server; or use --describer lexical.",
        )
    official = not address or "api.openai.com" in address
    chat = ChatOpenAI(
        model=model,
        base_url=address,
        api_key=SecretStr(key or NO_KEY),
        timeout=options.timeout,
        max_retries=0,
        use_responses_api=False,
    )
    identity = {
        "provider": "openai",
        "model": model,
        "base_url": address_without_secrets(address) if address else "default",
        "temperature": options.temperature,
    }
    return OpenAIEndpoint(chat, identity=identity, official=official, temperature=options.temperature)


def _langchain(provider: str, model: str, options: ModelOptions) -> ChatEndpoint:
    """Any provider that LangChain knows, by its own integration package and its own variables for key and address."""
    from langchain.chat_models import init_chat_model

    from agent.llm.endpoints.langchain_endpoint import LangChainEndpoint

    try:
        chat = init_chat_model(model, model_provider=provider, **_parameters(provider, options))
    except ImportError as error:
        named = re.search(r"pip install (?:-U )?([\w.\-]+)", str(error))
        package = named[1] if named else f"langchain-{provider.replace('_', '-')}"
        raise ExtraMissing(
            f"{provider}: models need a package that is not installed", next_step=f"pip install {package}"
        ) from error
    except ValueError as error:  # an unknown provider, or a key that is not set
        raise UnknownDescriber(f"{provider}:{model} cannot be used", got=_first_line(error)) from error
    identity = {"provider": provider, "model": model, "temperature": options.temperature}
    address = _address_of(chat, provider)
    return LangChainEndpoint(chat, identity=identity | ({"base_url": address} if address else {}))


def _parameters(provider: str, options: ModelOptions) -> dict[str, Any]:
    """The same settings under each provider's own names."""
    if provider == "ollama":
        client = {"timeout": options.timeout}
        return {"temperature": options.temperature, "num_predict": options.max_tokens, "client_kwargs": client}
    return {
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "timeout": options.timeout,
        "max_retries": 0,
    }


def _address_of(chat: Any, provider: str) -> str:
    """Where the client sends to, as far as it or the environment says so."""
    from agent.llm.endpoints.langchain_endpoint import address_without_secrets

    for name in ("base_url", "openai_api_base", "anthropic_api_url", "endpoint", "api_base"):
        value = getattr(chat, name, None)
        if isinstance(value, str) and value:
            return address_without_secrets(value)
    names = (f"{provider.upper()}_{end}" for end in ("BASE_URL", "API_BASE", "API_URL", "ENDPOINT", "HOST"))
    return next((address_without_secrets(os.environ[name]) for name in names if os.environ.get(name)), "")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
