"""Weight sharing: few values for many weights, and a file that stores them by their entropy."""
