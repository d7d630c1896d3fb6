"""ComBat-seq (Zhang, Parmigiani and Johnson 2020): counts stay counts."""
