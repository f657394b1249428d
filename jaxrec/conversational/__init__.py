"""Conversational recommenders: dialogues, catalogues of titles, language models, and what a conversation recommends."""
