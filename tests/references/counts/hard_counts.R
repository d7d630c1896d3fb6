suppressMessages({library(sva);library(edgeR)})
out<-commandArgs(TRUE)[1]; dir.create(out,showWarnings=FALSE)
set.seed(11); G<-400
make<-function(bt,grp,age,lmu,phi0){ n<-length(bt)
 mu<-exp(rnorm(G,lmu,1.3)); bg<-matrix(rnorm(G*max(bt),0,.5),G); de<-rnorm(G,0,.7); da<-rnorm(G,0,.2); lib<-runif(n,.6,1.6)
 M<-sapply(1:n,function(j) mu*exp(bg[,bt[j]]+de*grp[j]+da*age[j])*lib[j])
 phi<-matrix(rgamma(G*max(bt),shape=3,scale=phi0/3),G)
 sapply(1:n,function(j) rnbinom(G,mu=M[,j],size=1/pmax(phi[,bt[j]],1e-3))) }
save1<-function(name,cnt,sheet,res) { write.table(cnt,file.path(out,paste0(name,"_counts.txt")),row.names=FALSE,col.names=FALSE); write.csv(sheet,file.path(out,paste0(name,"_sheet.csv")),row.names=FALSE); write.table(res,file.path(out,paste0(name,"_result.txt")),row.names=FALSE,col.names=FALSE) }
# low counts, two covariates one numeric
bt<-rep(1:3,c(6,9,7)); grp<-c(0,0,0,1,1,1, 0,0,1,1,1,0,0,1,0, 1,0,1,0,1,0,1); age<-round(rnorm(22),3)
cnt<-make(bt,grp,age,1.5,.4); capture.output(r<-ComBat_seq(cnt,batch=bt,group=grp,covar_mod=cbind(age))); save1("low",cnt,data.frame(batch=bt,group=grp,age=age),r)
# overdispersed single cell like
cnt<-make(bt,grp,age*0,0,2); capture.output(r<-ComBat_seq(cnt,batch=bt,group=grp)); save1("sparse",cnt,data.frame(batch=bt,group=grp),r)
# group constant inside batch 3
bt<-rep(1:3,each=6); grp<-c(rep(0:1,each=3),rep(0:1,each=3),rep(0,6)); cnt<-make(bt,grp,grp*0,4,.2)
capture.output(r<-ComBat_seq(cnt,batch=bt,group=grp)); save1("constant",cnt,data.frame(batch=bt,group=grp),r)
# batch of two specimens, one of each group; little overdispersion
bt<-c(1,1,1,1,1,1,2,2,3,3,3,3,3); grp<-c(0,0,0,1,1,1,0,1,0,0,1,1,1); cnt<-make(bt,grp,grp*0,5,.005)
capture.output(r<-ComBat_seq(cnt,batch=bt,group=grp)); save1("pair",cnt,data.frame(batch=bt,group=grp),r)
