# What limma gives for the bladder excerpt and for simulated variances; see README.md.
# Usage: python pack.py export FOLDER; Rscript limma.R FOLDER; python pack.py pack FOLDER
folder <- commandArgs(TRUE)[1]
suppressMessages(library(limma))
get <- function(name, rows) matrix(readBin(file.path(folder, name), "double", 1e7), nrow = rows)
put <- function(x, name) {
  connection <- file(file.path(folder, name), "wb"); writeBin(as.numeric(as.matrix(x)), connection)
  close(connection)
}
sheet <- read.csv(file.path(folder, "sheet.csv"))
design <- model.matrix(~ factor(cancer) + factor(batch), sheet)
contrast <- cbind(c(0, -1, 1, 0, 0, 0, 0))
for (input in c("complete", "missing")) {
  y <- get(input, 2000)
  fit <- lmFit(y, design)
  for (trend in c(FALSE, TRUE)) for (robust in c(FALSE, TRUE)) {
    m <- eBayes(fit, trend = trend, robust = robust)
    name <- paste(input, trend, robust, sep = "_")
    put(cbind(m$coefficients[, 2:3], m$t[, 2:3], m$p.value[, 2:3], m$s2.post, m$df.total,
              rep_len(m$df.prior, 2000), rep_len(m$s2.prior, 2000)), name)
    if (input == "complete") {
      both <- eBayes(contrasts.fit(fit, coefficients = 2:3), trend = trend, robust = robust)
      one <- eBayes(contrasts.fit(fit, contrast), trend = trend, robust = robust)
      put(cbind(both$F, both$F.p.value, one$coefficients, one$t, one$p.value,
                p.adjust(one$p.value, "BH")), paste0(name, "_F"))
    }
  }
}
# Variances with few, unequal and no degrees of freedom, zeros and outliers.
set.seed(1)
n <- 400
df <- sample(0:9, n, TRUE)
mean <- rnorm(n)
s2 <- exp(0.3 * mean) * rchisq(n, pmax(df, 1)) / pmax(df, 1) * 4 / rchisq(n, 4)
s2[1:8] <- s2[1:8] * exp(seq(2, 9)); s2[20:22] <- 0; s2[df == 0] <- NA
put(cbind(s2, df, mean), "simulated")
for (trend in c(FALSE, TRUE)) for (robust in c(FALSE, TRUE)) {
  f <- suppressWarnings(squeezeVar(s2, df, covariate = if (trend) mean else NULL, robust = robust))
  put(cbind(f$var.post, rep_len(f$df.prior, n), rep_len(f$var.prior, n)),
      paste("simulated", trend, robust, sep = "_"))
}
