"""Language models behind one door: providers, limits, retries, replies kept on disk, tool calls, validated answers."""
