"""What to move to: the best stack that each class of nodes can reach, with reasons, gains and what is given up."""
