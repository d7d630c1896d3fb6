# limma's rates on tables of blocks_false_positives.py. Usage: Rscript ... FOLDER FEATURES
arguments <- commandArgs(TRUE); folder <- arguments[1]; features <- as.integer(arguments[2])
suppressMessages(library(limma))
for (name in readLines(file.path(folder, "scenarios.txt"))) {
  sheet <- read.csv(file.path(folder, paste0(name, ".csv")), stringsAsFactors = TRUE)
  n <- nrow(sheet)
  values <- readBin(file.path(folder, name), "numeric", 1e9)
  tables <- length(values) / n / features
  rates <- sapply(seq_len(tables), function(k) {
    y <- matrix(values[seq_len(n * features) + (k - 1) * n * features], features)
    sheet$tested <- relevel(factor(sheet$tested), levels(factor(sheet$tested))[1])
    design <- model.matrix(~ tested + month, sheet)
    rho <- duplicateCorrelation(y, design, block = sheet$subject)$consensus
    fit <- eBayes(lmFit(y, design, block = sheet$subject, correlation = rho))
    mean(fit$p.value[, 2] <= .05)
  })
  cat(name, format(mean(rates), digits = 10), "\n")
}
