# Removal of two batch columns and a covariate at once by limma, and ComBat with the others in its
# model by sva: Debian's r-bioc-limma 3.54 and r-bioc-sva 3.46. Run here: Rscript make.R
suppressMessages({library(limma); library(sva)})
set.seed(2026)
n <- 36
sheet <- data.frame(
  id = sprintf("s%02d", 1:n),
  run = sample(c("r1", "r2", "r3"), n, TRUE, c(.5, .3, .2)),
  plate = sample(c("p1", "p2", "p3", "p4"), n, TRUE),
  rin = round(rnorm(n, 7, 1), 2),
  drug = sample(c("no", "yes"), n, TRUE),
  age = round(runif(n, 20, 70), 1)
)
x <- matrix(rnorm(15 * n, 8), 15, n, dimnames = list(sprintf("g%02d", 1:15), sheet$id))
x <- x + outer(rnorm(15), as.integer(factor(sheet$run))) +
  outer(rnorm(15), as.integer(factor(sheet$plate)) == 2) + outer(rnorm(15), sheet$rin - 7) +
  outer(rnorm(15), sheet$drug == "yes")
x <- round(x, 4)
kept <- model.matrix(~ drug + age, sheet)
removed <- removeBatchEffect(x, batch = sheet$run, batch2 = sheet$plate,
  covariates = cbind(sheet$rin), design = kept)
centred <- removeBatchEffect(x, batch = sheet$run, batch2 = sheet$plate,
  covariates = cbind(sheet$rin - mean(sheet$rin)), design = kept)
combat <- suppressMessages(ComBat(x, sheet$run, mod = model.matrix(~ drug + age + plate + rin, sheet)))
full <- lmFit(x, model.matrix(~ drug + age + run + plate + rin, sheet))$coefficients
write.csv(sheet, "sheet.csv", row.names = FALSE)
write.csv(cbind(feature = rownames(x), as.data.frame(x)), "input.csv", row.names = FALSE)
exact <- function(m) apply(m, 2, function(v) sprintf("%.17g", v))
write.csv(exact(removed), "removed.csv", row.names = FALSE, quote = FALSE)
write.csv(exact(centred), "centred.csv", row.names = FALSE, quote = FALSE)
write.csv(exact(combat), "combat.csv", row.names = FALSE, quote = FALSE)
write.csv(exact(full), "coefficients.csv", row.names = FALSE, quote = FALSE)
