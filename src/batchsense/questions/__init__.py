"""The questions, one room each: what is asked, what is answered, how it is told."""
