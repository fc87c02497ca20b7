"""The ring beside what people use instead: ways to hand an array to another process."""
