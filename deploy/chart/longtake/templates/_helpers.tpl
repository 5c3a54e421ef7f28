{{/* The name of a cell and of its objects. Services, and so the names of pods, take no other. */}}
{{- define "longtake.fullname" -}}
{{- $name := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-longtake" .Release.Name) (contains "longtake" .Release.Name)) -}}
{{- if gt (len $name) 40 }}{{ fail (printf "the name %s is longer than 40 characters: KubeRay would shorten those made from it; set fullnameOverride" $name) }}{{ end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}{{ fail (printf "the name %s cannot be that of a Service, which begins with a letter and has only small letters, digits and hyphens; set fullnameOverride, or install the release under another name" $name) }}{{ end -}}
{{- $name -}}
{{- end }}

{{- define "longtake.cell" -}}
longtake-cell: {{ include "longtake.fullname" . | quote }}
{{- end }}

{{/* Of a pod: (list context role) */}}
{{- define "longtake.selector" -}}
longtake-cell: {{ include "longtake.fullname" (first .) | quote }}
longtake-role: {{ last . }}
{{- end }}

{{/* Of what has no chart and no manager of its own, such as pods that KubeRay makes: (list context component) */}}
{{- define "longtake.commonLabels" -}}
{{- $top := first . -}}
app.kubernetes.io/name: longtake
app.kubernetes.io/instance: {{ $top.Release.Name | quote }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/part-of: longtake
{{- end }}

{{/* Of any object: (list context component) */}}
{{- define "longtake.labels" -}}
{{- $top := first . -}}
{{ include "longtake.commonLabels" . }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- end }}

{{- define "longtake.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "longtake.fullname" .) }}
{{- else }}{{ required "serviceAccount.name: the name of one that exists, because serviceAccount.create is false" .Values.serviceAccount.name }}{{ end -}}
{{- end }}

{{/* (list context "frontend" or "worker"); a digest says which image it is, whatever its tag says later. */}}
{{- define "longtake.image" -}}
{{- $image := index (first .).Values.image (last .) -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default (first .).Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "longtake.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled }}{{ include "longtake.fullname" . }}-tls{{ else }}{{ .Values.tls.secretName }}{{ end -}}
{{- end }}

{{/* (list context "engine" or "worker") */}}
{{- define "longtake.linkSecret" -}}
{{- $top := first . -}}
{{- if $top.Values.link.certManager.enabled }}{{ include "longtake.fullname" $top }}-link-{{ last . }}
{{- else }}{{ index $top.Values.link (printf "%sSecret" (last .)) }}{{ end -}}
{{- end }}

{{- define "longtake.raySecret" -}}
{{- .Values.ray.authSecret | default (include "longtake.fullname" .) -}}
{{- end }}

{{/* The ports of a Ray node that a NetworkPolicy must name. */}}
{{- define "longtake.rayPorts" -}}
node-manager-port: "6380"
object-manager-port: "6381"
runtime-env-agent-port: "6382"
dashboard-agent-grpc-port: "6383"
dashboard-agent-listen-port: "52365"
metrics-export-port: "6384"
min-worker-port: "10002"
max-worker-port: "10999"
{{- end }}

{{/* What parts of a cell reach of each other's Ray. */}}
{{- define "longtake.rayRules" -}}
{{- $ray := include "longtake.rayPorts" . | fromYaml -}}
- {port: {{ index $ray "node-manager-port" }}}
- {port: {{ index $ray "object-manager-port" }}}
- {port: {{ index $ray "min-worker-port" }}, endPort: {{ index $ray "max-worker-port" }}}
{{- end }}

{{/* The groups of workers, a JSON list. */}}
{{- define "longtake.workerRoles" -}}
{{- if gt (int .Values.workers.text.replicas) 0 }}["denoise", "decode", "text"]{{ else }}["denoise", "decode"]{{ end -}}
{{- end }}

{{/* The GPUs of a pod of workers: (list context role) */}}
{{- define "longtake.gpus" -}}
{{- $model := (first .).Values.config.model | default dict -}}
{{- $device := eq (last .) "text" | ternary $model.text_device $model.device -}}
{{- eq (toString $device) "cuda" | ternary (index (first .).Values.workers (last .)).perPod 0 -}}
{{- end }}

{{/* All workers of a group: (list context role) */}}
{{- define "longtake.workerCount" -}}
{{- $group := index (first .).Values.workers (last .) -}}
{{- mul $group.replicas ($group.layerSplit | default 1) -}}
{{- end }}

{{/* Pods of a group of workers: (list context role) */}}
{{- define "longtake.podCount" -}}
{{- $group := index (first .).Values.workers (last .) -}}
{{- div (add (include "longtake.workerCount" . | int) $group.perPod -1) $group.perPod -}}
{{- end }}
