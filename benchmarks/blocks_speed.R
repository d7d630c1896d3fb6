# lme4 and limma on the tables of blocks_speed.py. Usage: Rscript blocks_speed.R FOLDER
folder <- commandArgs(TRUE)[1]
suppressMessages({library(lme4); library(lmerTest); library(limma); library(edgeR)})
get <- function(name, rows) matrix(readBin(file.path(folder, name), "numeric", 1e9), rows)
seconds <- function(work) { before <- proc.time(); force(work); sum((proc.time() - before)[c(1, 2, 4, 5)]) }
sheet <- read.csv(file.path(folder, "mixed.csv"), stringsAsFactors = TRUE)
y <- get("mixed", nrow(sheet))
plain <- seconds(for (j in seq_len(ncol(y))) {
  m <- lme4::lmer(y[, j] ~ group + time + month + (1 | subject), sheet)
})
exactly <- lmerControl(optCtrl = list(xtol_abs = 1e-14, ftol_abs = 1e-16, maxeval = 1e4))
found <- matrix(0, ncol(y), 6)
whole <- seconds(for (j in seq_len(ncol(y))) {
  m <- suppressMessages(lmerTest::lmer(y[, j] ~ group + time + month + (1 | subject), sheet, control = exactly))
  s <- coef(summary(m)); found[j, ] <- c(s[2, 1:3], s[3, 1:3])
})
writeBin(as.numeric(found), file.path(folder, "found"))
sheet <- read.csv(file.path(folder, "counts.csv"), stringsAsFactors = TRUE)
counts <- t(get("counts", nrow(sheet))); design <- model.matrix(~ group + lot, sheet)
limma <- seconds({
  d <- edgeR::calcNormFactors(DGEList(counts)[filterByExpr(counts, design), , keep.lib.sizes = FALSE])
  v <- voom(d, design); rho <- duplicateCorrelation(v, design, block = sheet$subject)$consensus
  v <- voom(d, design, block = sheet$subject, correlation = rho)
  rho <- duplicateCorrelation(v, design, block = sheet$subject)$consensus
  fit <- eBayes(lmFit(v, design, block = sheet$subject, correlation = rho))
})
cat(plain, whole, limma, nrow(d), rho, "\n")
