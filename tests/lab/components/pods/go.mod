module nordic.gitops/lab/pods

go 1.21.0
