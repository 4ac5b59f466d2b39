{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- define "wildcard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* What finds the pods of a component: (list . "agent"). The operator looks for agents by these. */ -}}
{{- define "wildcard.selector" -}}
app.kubernetes.io/name: wildcard-operator
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "wildcard.labels" -}}
{{ include "wildcard.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- define "wildcard.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* For containers that need nothing of the node. */ -}}
{{- define "wildcard.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
{{- end -}}
