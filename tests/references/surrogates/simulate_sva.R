# What R's sva finds in simulated experiments whose batches nobody wrote down.
#   python tests/references/surrogates/pack.py write DIR
#   Rscript tests/references/surrogates/simulate_sva.R DIR
#   python tests/references/surrogates/pack.py pack DIR
# Each matrix DIR/ID.f64 holds features x specimens in R's order (so: specimens x features in C
# order), DIR/ID.group the treated (0 or 1). Calls only sva's exported functions.
suppressMessages(library(sva))
folder <- commandArgs(TRUE)[1]
write_matrix <- function(x, name) {
  con <- file(file.path(folder, name), "wb"); writeBin(as.numeric(x), con); close(con)
}
for (path in sort(list.files(folder, pattern = "\\.group$", full.names = TRUE))) {
  id <- sub("\\.group$", "", basename(path))
  group <- scan(path, quiet = TRUE)
  n <- length(group)
  raw <- readBin(file.path(folder, paste0(id, ".f64")), "double", n = 1e8)
  x <- matrix(raw, ncol = n)
  mod <- model.matrix(~ factor(group)); mod0 <- mod[, 1, drop = FALSE]
  count <- num.sv(x, mod, method = "be", seed = 1)
  capture.output(irw <- sva(x, mod, mod0, n.sv = 2))
  capture.output(two <- sva(x, mod, mod0, n.sv = 2, method = "two-step"))
  write_matrix(c(count, irw$n.sv, two$n.sv), paste0(id, ".count"))
  write_matrix(irw$sv, paste0(id, ".irw"))
  if (two$n.sv > 0) write_matrix(two$sv, paste0(id, ".two"))
}
writeLines(c(R.version.string, paste("sva", packageVersion("sva"))), file.path(folder, "versions.txt"))
