"""ComBat (Johnson, Li and Rabinovic 2007): shift and scale of every batch, shrunken."""
