"""Embedscale behind the interfaces of other libraries, each in a module that needs its extra: langchain, llama_index,
mteb; and sentence_transformers, which needs nothing."""
