"""The stores on MongoDB: the operator's own database, in the shapes every node of the network knows."""
