"""Back ends beside the default engine, behind the same Backend protocol: an HTTP endpoint, vLLM."""
