// Only its CustomResourceDefinitions are used: the chart's monitors are tested against them.
module wildcard-operator.io/kubetools/monitoring

go 1.25

require github.com/prometheus-operator/prometheus-operator v0.85.0
