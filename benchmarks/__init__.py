"""What the service costs, each figure beside the floor and the stock way measured in the same run."""
