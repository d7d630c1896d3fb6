# What limma makes of specimens of different quality; see README.md. Usage: Rscript weights.R FOLDER
folder <- commandArgs(TRUE)[1]; dir.create(folder, showWarnings = FALSE)
suppressMessages(library(limma))
put <- function(x, name) {
  connection <- file(file.path(folder, name), "wb"); writeBin(as.numeric(as.matrix(x)), connection)
  close(connection)
}
for (i in 1:8) {
  set.seed(100 + i)
  genes <- sample(c(40, 100), 1); n <- 2 * sample(3:6, 1); group <- rep(0:1, length.out = n)
  batch <- rep(0:1, each = n / 2); batch[1] <- 1
  design <- cbind(1, group, batch)
  y <- matrix(rnorm(genes * n), genes) * sqrt(4 / rgamma(genes, 4)) * rep(exp(rnorm(n, 0, .4)), each = genes)
  known <- matrix(rgamma(genes * n, 5, 5), genes)
  prior <- c(10, 0.5)[1 + i %% 2]
  weights <- function(...) arrayWeights(y, design, prior.n = prior, method = "reml", tol = 1e-24, maxiter = 5000, ...)
  plain <- weights(); precise <- weights(weights = known)
  fit <- eBayes(lmFit(y, design, weights = plain))
  put(y, paste0(i, ".values")); put(rbind(group, batch), paste0(i, ".sheet")); put(known, paste0(i, ".known"))
  put(c(prior, plain, precise), paste0(i, ".weights")); put(rbind(fit$t[, 2], fit$p.value[, 2]), paste0(i, ".tests"))
}
