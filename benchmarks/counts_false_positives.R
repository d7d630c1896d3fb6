# limma's p on the tables of counts_false_positives.py; NaN where a feature is filtered out.
arguments <- commandArgs(TRUE); folder <- arguments[1]; genes <- as.integer(arguments[2])
suppressMessages({library(edgeR); library(limma)})
scenarios <- read.csv(file.path(folder, "scenarios.csv"))
for (k in seq_len(nrow(scenarios))) {
  each <- scenarios$each[k]; n <- 2 * each
  values <- array(readBin(file.path(folder, scenarios$name[k]), "double", 1e9),
                  c(genes, n, scenarios$tables[k]))
  design <- model.matrix(~ factor(rep(0:1, each = each)) + factor(rep(0:1, each)))
  p <- sapply(seq_len(scenarios$tables[k]), function(place) {
    y <- values[, , place]
    kept <- filterByExpr(y, design)
    v <- voom(calcNormFactors(DGEList(y)[kept, , keep.lib.sizes = FALSE]), design)
    found <- rep(NaN, genes)
    found[kept] <- eBayes(lmFit(v, design))$p.value[, 2]
    found
  })
  writeBin(as.numeric(p), file.path(folder, paste0(scenarios$name[k], ".p")))
}
