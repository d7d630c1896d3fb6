# What edgeR and limma make of counts; see README.md. Usage: Rscript voom.R FOLDER
folder <- commandArgs(TRUE)[1]; dir.create(folder, showWarnings = FALSE)
suppressMessages({library(edgeR); library(limma)})
put <- function(x, name) {
  connection <- file(file.path(folder, name), "wb"); writeBin(as.numeric(as.matrix(x)), connection)
  close(connection)
}
# limma finds the prior of --robust as a root to 1e-8; with `exact` it goes on to double precision.
imports <- parent.env(asNamespace("limma")); unlockBinding("uniroot", imports); exact <- FALSE
assign("uniroot", function(..., tol) {
  if (exact) stats::uniroot(..., tol = 1e-15, maxiter = 10000) else stats::uniroot(..., tol = tol)
}, imports)
lines <- c("name,genes,columns,trend,robust")
study <- function(name, y, group, batch, trend, robust) {
  group <- as.integer(factor(group)); batch <- as.integer(factor(batch))
  design <- model.matrix(~ factor(group) + factor(batch))
  kept <- filterByExpr(y, design)
  d <- edgeR::calcNormFactors(DGEList(y)[kept, , keep.lib.sizes = FALSE])
  v <- voom(d, design, save.plot = TRUE)
  fit <- eBayes(lmFit(v, design), trend = trend, robust = robust)
  put(y, paste0(name, ".counts")); put(cbind(group, batch), paste0(name, ".sheet"))
  put(kept, paste0(name, ".kept"))
  put(cbind(d$samples$lib.size, d$samples$norm.factors), paste0(name, ".libraries"))
  put(v$weights, paste0(name, ".weights")); put(cbind(v$voom.line$x, v$voom.line$y), paste0(name, ".trend"))
  put(cpm(d, log = TRUE), paste0(name, ".logcpm"))
  tests <- function(fit) cbind(fit$coefficients[, 2], fit$t[, 2], fit$p.value[, 2], fit$df.total,
                               rep_len(fit$s2.prior, sum(kept)))
  put(tests(fit), paste0(name, ".tests"))
  exact <<- TRUE
  put(tests(eBayes(lmFit(v, design), trend = trend, robust = robust)), paste0(name, ".exact"))
  exact <<- FALSE
  lines <<- c(lines, paste(name, nrow(y), ncol(y), as.integer(trend), as.integer(robust), sep = ","))
  if (!name %in% sprintf("simulated%02d", 1:8)) return(invisible())
  q <- voomWithQualityWeights(d, design, method = "reml", tol = 1e-20, maxiter = 500)
  put(q$targets$sample.weights, paste0(name, ".quality"))
  put(tests(eBayes(lmFit(q, design), trend = trend, robust = robust)), paste0(name, ".qualitytests"))
}
for (i in 1:50) {
  set.seed(i)
  genes <- sample(c(60, 120, 240), 1); each <- sample(3:6, 1); groups <- sample(2:3, 1)
  n <- each * groups; group <- rep(seq_len(groups), each = each); batch <- sample(rep(1:2, length.out = n))
  while (qr(model.matrix(~ factor(group) + factor(batch)))$rank < groups + 1) batch <- sample(batch)
  library <- exp(runif(n, -1, 1)); mu <- exp(rnorm(genes, 4, 2))
  effect <- matrix(0, genes, groups); effect[seq_len(genes %/% 6), groups] <- rnorm(genes %/% 6, 0, 1.5)
  shift <- matrix(rnorm(genes * 2, 0, .5), genes)
  mean <- outer(mu, library) * exp(effect[, group] + shift[, batch])
  y <- matrix(rnbinom(genes * n, mu = mean, size = 1 / rgamma(genes, 3, 20)), genes)
  y[genes, ] <- 0
  study(sprintf("simulated%02d", i), y, group, batch, i %% 4 >= 2, i %% 2 == 1)
}
# sultan has no batches; every other specimen stands for one.
real <- function(name, y, group, batch) study(name, y, group, batch, FALSE, FALSE)
data(Marioni, package = "NOISeq")
real("marioni", as.matrix(mycounts), myfactors$Tissue, sub(".*_", "", myfactors$TissueRun))
suppressMessages({library(Biobase); library(metagenomeSeq)})
data(sultan, package = "HTSFilter")
real("sultan", exprs(sultan), pData(sultan)$cell.line, c(1, 2, 1, 2))
data(lungData); known <- !is.na(pData(lungData)$SmokingStatus)
real("lung", MRcounts(lungData)[, known],
      pData(lungData)$SmokingStatus[known], pData(lungData)$SiteSampled[known])
data(mouseData)
real("mouse", MRcounts(mouseData), pData(mouseData)$diet, pData(mouseData)$date)
writeLines(lines, file.path(folder, "studies.csv"))
