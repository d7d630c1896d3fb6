# What R's sva finds on the first 2,000 probes of the bladder data (see ../bladder/README.md).
#   Rscript bladder_sva.R DIR      then    python pack.py bladder DIR
suppressMessages({library(sva); library(bladderbatch); library(Biobase)})
folder <- commandArgs(TRUE)[1]
data(bladderdata)
x <- exprs(bladderEset)[1:2000, ]
mod <- model.matrix(~ as.factor(cancer), data = pData(bladderEset)); mod0 <- mod[, 1, drop = FALSE]
write_matrix <- function(x, name) {
  con <- file(file.path(folder, name), "wb"); writeBin(as.numeric(x), con); close(con)
}
count <- num.sv(x, mod, method = "be", seed = 1)
capture.output(irw <- sva(x, mod, mod0, n.sv = 3))
capture.output(two <- sva(x, mod, mod0, n.sv = 3, method = "two-step"))
write_matrix(count, "bladder.count")
write_matrix(irw$sv, "bladder.irw")
write_matrix(cbind(irw$pprob.gam, irw$pprob.b), "bladder.pprob")
write_matrix(two$sv, "bladder.two")
