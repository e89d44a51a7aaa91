"""The version, in a file of its own so that packaging and `import hf_langcore` read the same one."""

__version__ = "0.1.0"
