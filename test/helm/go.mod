module github.com/vigie-io/vigie/test/helm

go 1.26.0

require (
	github.com/vigie-io/vigie v0.0.0
	helm.sh/helm/v3 v3.22.0
	k8s.io/apimachinery v0.37.2
)

replace github.com/vigie-io/vigie => ../..
