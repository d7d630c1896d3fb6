# What limma, statmod and lme4 with lmerTest make of repeated rows. Usage: Rscript blocks.R FOLDER
folder <- commandArgs(TRUE)[1]
suppressMessages({library(limma); library(edgeR); library(statmod); library(lme4); library(lmerTest)})
put <- function(x, name) write.table(format(as.matrix(x), digits = 16, trim = TRUE),
  file.path(folder, paste0(name, ".txt")), quote = FALSE, row.names = FALSE, col.names = FALSE)
set.seed(1)
features <- 40
sheet <- data.frame(subject = rep(1:8, each = 3), group = rep(0:1, each = 12), month = rep(0:2, 8))
sheet <- sheet[-c(2, 5, 6, 20), ]
n <- nrow(sheet); subject <- factor(sheet$subject)
y <- matrix(rnorm(features * n), features) +
  matrix(rnorm(features * 8), features)[, sheet$subject] * runif(features, 0, 1.5)
w <- matrix(exp(rnorm(features * n, 1, .7)), features)
gaps <- y; gaps[sample(length(y), 90)] <- NA
put(sheet, "sheet"); put(y, "values"); put(w, "weights"); put(gaps, "gaps")
design <- model.matrix(~ factor(group) + factor(month), sheet)
low <- 1 / (1 - max(table(subject))) + .01
# duplicateCorrelation stops its search early; the same search to its end.
converged <- function(y, w) sapply(seq_len(features), function(i) {
  o <- is.finite(y[i, ]); s <- sqrt(w[i, o])
  v <- randomizedBlockFit(y[i, o] * s, design[o, ] * s, model.matrix(~ 0 + factor(subject[o])),
                          only.varcomp = TRUE, tol = 1e-14, maxit = 500)$varcomp
  min(max(v[2] / sum(v), low), .99)
})
rho <- NULL
for (case in c("values", "weights", "gaps")) {
  data <- if (case == "gaps") gaps else y
  own <- if (case == "weights") w else matrix(1, features, n)
  found <- duplicateCorrelation(data, design, block = subject, weights = own)
  fit <- lmFit(data, design, block = subject, correlation = found$consensus, weights = own)
  whole <- eBayes(fit); months <- topTable(whole, coef = 3:4, number = Inf, sort.by = "none")
  rho <- rbind(rho, c(found$consensus, tanh(mean(atanh(converged(data, own)), trim = .15))))
  put(cbind(tanh(found$atanh.correlations), converged(data, own), fit$coefficients[, 2], fit$sigma,
            whole$t[, 2], whole$p.value[, 2], months$F), paste0(case, "-limma"))
}
put(rho, "consensus")
exactly <- lmerControl(optCtrl = list(xtol_abs = 1e-14, ftol_abs = 1e-16, maxeval = 1e4))
mixed <- function(data, own) t(sapply(seq_len(features), function(i) {
  d <- data.frame(y = data[i, ], own = own[i, ], sheet)
  m <- suppressMessages(lmerTest::lmer(y ~ factor(group) + factor(month) + (1 | subject), d,
                                       weights = own, control = exactly))
  s <- coef(summary(m)); a <- anova(m); v <- as.data.frame(VarCorr(m))$vcov
  c(v, s[2, 1:3], s[3, 1:3], a[2, "F value"], a[2, "DenDF"])
}))
put(mixed(y, matrix(1, features, n)), "values-lmer"); put(mixed(y, w), "weights-lmer")
put(mixed(gaps, matrix(1, features, n)), "gaps-lmer")
genes <- 150; size <- exp(runif(n, -.7, .7))
mean <- outer(exp(rnorm(genes, 4, 1.5)), size) *
  exp(matrix(rnorm(genes * 8, 0, .4), genes)[, sheet$subject])
counts <- matrix(rnbinom(genes * n, mu = mean, size = 10), genes)
kept <- filterByExpr(counts, design)
d <- edgeR::calcNormFactors(DGEList(counts)[kept, , keep.lib.sizes = FALSE])
first <- voom(d, design); one <- duplicateCorrelation(first, design, block = subject)$consensus
second <- voom(d, design, block = subject, correlation = one)
two <- duplicateCorrelation(second, design, block = subject)$consensus
fit <- eBayes(lmFit(second, design, block = subject, correlation = two))
put(counts, "counts"); put(c(one, two), "counts-consensus"); put(second$weights[, 1:3], "counts-weights")
put(cbind(fit$coefficients[, 2], fit$t[, 2], fit$p.value[, 2]), "counts-limma")
