"""TabAgent side by side with llama-server and a raw decode loop on the same library."""
