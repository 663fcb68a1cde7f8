"""What is said to providers of language models and what they answer, without a socket: no SDK is imported here."""
