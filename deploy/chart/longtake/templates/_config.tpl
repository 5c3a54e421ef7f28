{{/* What the chart decides of the server's configuration. */}}
{{- define "longtake.owned" -}}
cluster:
  launch: ray
  ray_address: {{ printf "%s-head-svc.%s.svc:6379" (include "longtake.fullname" .) .Release.Namespace }}
  place_within_s: {{ .Values.workers.placeWithinSeconds }}
  denoise_nodes: {longtake-pool: denoise}
  decode_nodes: {longtake-pool: decode}
  {{- if has "text" (include "longtake.workerRoles" . | fromJsonArray) }}
  text_nodes: {longtake-pool: text}
  {{- end }}
  chains_on_one_node: {{ .Values.workers.denoise.chainsInOnePod }}
  denoise_workers: {{ .Values.workers.denoise.replicas }}
  layer_split: {{ .Values.workers.denoise.layerSplit }}
  decode_workers: {{ .Values.workers.decode.replicas }}
  text_workers: {{ max 1 (int .Values.workers.text.replicas) }}
listen: {host: 0.0.0.0, port: {{ .Values.service.port }}}
metrics: {address: "0.0.0.0:{{ .Values.metrics.port }}", cell: {{ include "longtake.fullname" . | quote }}}
{{- if .Values.page.enabled }}
http: {address: "0.0.0.0:{{ .Values.page.port }}"}
{{- end }}
{{- if include "longtake.tlsSecret" . }}
tls:
  certificate: /etc/longtake-tls/tls.crt
  key: /etc/longtake-tls/tls.key
  {{- if .Values.tls.clientCa }}
  client_ca: /etc/longtake-tls/ca.crt
  {{- end }}
{{- end }}
{{- if .Values.auth.tenantsSecret }}
auth: {tenants: /etc/longtake-tenants/tenants.toml}
{{- end }}
{{- if .Values.journalVolume }}
journal: {path: /var/lib/longtake/journal}
{{- end }}
link:
  port: {{ .Values.link.port }}
  meeting_port: {{ .Values.link.meetingPort }}
  {{- if include "longtake.linkSecret" (list . "engine") }}
  certificate: /etc/longtake-link/tls.crt
  key: /etc/longtake-link/tls.key
  ca: /etc/longtake-link/ca.crt
  {{- end }}
{{- end }}

{{/* A TOML table and the tables in it: (list path table). JSON's strings, numbers, booleans and lists are TOML's. */}}
{{- define "longtake.toml" -}}
{{- $path := first . -}}
{{- range $key, $value := last . }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := last . }}
{{- if kindIs "map" $value }}
{{- $name := ternary $key (printf "%s.%s" $path $key) (empty $path) }}

[{{ $name }}]
{{- include "longtake.toml" (list $name $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "longtake.config" -}}
{{- $all := mustMergeOverwrite (deepCopy .Values.config) (include "longtake.owned" . | fromYaml) -}}
# Made by the chart from its values.
{{- include "longtake.toml" (list "" $all) }}
{{- end }}

{{/* A configuration has the name of its content: it never changes below a pod that runs. */}}
{{- define "longtake.configName" -}}
{{ include "longtake.fullname" . }}-config-{{ include "longtake.config" . | sha256sum | trunc 10 }}
{{- end }}
