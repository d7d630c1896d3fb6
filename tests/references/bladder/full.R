# What sva and limma give for all 22283 probes of bladderbatch, for the long comparison.
# Usage: Rscript full.R FOLDER      then: BATCHSENSE_BLADDER=FOLDER make validate
# Needs R with sva, limma and bladderbatch (Debian: r-bioc-sva r-bioc-limma r-bioc-bladderbatch).
# Each file NAME__ROWS__COLUMNS.f64 holds doubles, column by column.
folder <- commandArgs(TRUE)
stopifnot(length(folder) == 1)
suppressMessages({library(sva); library(limma); library(bladderbatch)})
dir.create(folder, recursive = TRUE, showWarnings = FALSE)
put <- function(x, name) {
  x <- as.matrix(x)
  con <- file(file.path(folder, sprintf("%s__%d__%d.f64", name, nrow(x), ncol(x))), "wb")
  writeBin(as.numeric(x), con)
  close(con)
}
data(bladderdata)
pheno <- pData(bladderEset)
edata <- exprs(bladderEset)
batch <- pheno$batch
mod <- model.matrix(~as.factor(cancer), data = pheno)
put(edata, "input")
put(batch, "batch")
put(mod[, -1], "mod")
quiet <- suppressMessages
put(quiet(ComBat(edata, batch)), "par_nomod")
put(quiet(ComBat(edata, batch, mod = mod)), "par_mod")
put(quiet(ComBat(edata, batch, mean.only = TRUE)), "par_nomod_meanonly")
put(quiet(ComBat(edata, batch, mod = mod, mean.only = TRUE)), "par_mod_meanonly")
put(quiet(ComBat(edata, batch, ref.batch = 3)), "par_nomod_ref3")
put(quiet(ComBat(edata, batch, mod = mod, ref.batch = 3)), "par_mod_ref3")
set.seed(1)
age <- rnorm(57, 60, 10)
put(age, "age")
put(quiet(ComBat(edata, batch, mod = model.matrix(~age))), "par_age")
holes <- edata
set.seed(2)
gaps <- matrix(runif(length(holes)) < 0.05, nrow(holes))
for (b in unique(batch)) gaps[, which(batch == b)[1:3]] <- FALSE
holes[gaps] <- NA
put(holes, "holes")
put(quiet(ComBat(holes, batch)), "par_nomod_holes")
put(quiet(ComBat(holes, batch, mod = mod)), "par_mod_holes")
put(quiet(removeBatchEffect(edata, batch = batch, design = mod)), "rbe_mod")
few <- edata[1:2000, ]
put(quiet(ComBat(few, batch, par.prior = FALSE)), "nonpar_nomod_2000")
put(quiet(ComBat(few, batch, mod = mod, par.prior = FALSE)), "nonpar_mod_2000")
some <- edata[1:500, ]
gappy <- holes[1:500, ]
put(quiet(ComBat(some, batch, mod = mod, par.prior = FALSE, mean.only = TRUE)), "nonpar_mod_meanonly_500")
put(quiet(ComBat(some, batch, mod = mod, par.prior = FALSE, ref.batch = 3)), "nonpar_mod_ref3_500")
put(quiet(ComBat(gappy, batch, mod = mod, par.prior = FALSE)), "nonpar_mod_holes_500")
put(quiet(ComBat(some, batch, mod = mod, mean.only = TRUE, ref.batch = 3)), "par_mod_ref3_meanonly_500")
put(quiet(ComBat(gappy, batch, mod = mod, mean.only = TRUE)), "par_mod_meanonly_holes_500")
put(quiet(ComBat(gappy, batch, mod = model.matrix(~age))), "par_age_holes_500")
alone <- batch
alone[1] <- 9
put(quiet(ComBat(some, alone, mod = mod, ref.batch = 3)), "alone_mod_ref3_500")
put(quiet(ComBat(gappy, alone, mod = mod)), "alone_mod_holes_500")
