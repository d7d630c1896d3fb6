# limma's share of p <= 0.05 on the tables of counts_false_positives.py.
arguments <- commandArgs(TRUE); folder <- arguments[1]; genes <- as.integer(arguments[2])
suppressMessages({library(edgeR); library(limma)})
scenarios <- read.csv(file.path(folder, "scenarios.csv"))
for (k in seq_len(nrow(scenarios))) {
  each <- scenarios$each[k]; n <- 2 * each
  values <- array(readBin(file.path(folder, scenarios$name[k]), "double", 1e9),
                  c(genes, n, scenarios$tables[k]))
  design <- model.matrix(~ factor(rep(0:1, each = each)) + factor(rep(0:1, each)))
  shares <- sapply(seq_len(scenarios$tables[k]), function(place) {
    y <- values[, , place]
    d <- DGEList(y)[filterByExpr(y, design), , keep.lib.sizes = FALSE]
    v <- voom(calcNormFactors(d), design)
    mean(eBayes(lmFit(v, design))$p.value[, 2] <= 0.05)
  })
  cat(scenarios$name[k], format(mean(shares), digits = 15), "\n")
}
