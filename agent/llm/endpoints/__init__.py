"""Where a request goes: LangChain's chat models or a model in this process, opened by name; what each one takes."""
