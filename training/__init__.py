"""From dialogues to a better model: recipes, data, the loop, evaluation and the way back into the chat."""
