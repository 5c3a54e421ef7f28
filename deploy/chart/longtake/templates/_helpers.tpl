{{- define "longtake.fullname" -}}
{{- $name := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-longtake" .Release.Name) (contains "longtake" .Release.Name)) -}}
{{- if gt (len $name) 40 }}{{ fail (printf "the name %s is longer than 40 characters: KubeRay would shorten those made from it; set fullnameOverride" $name) }}{{ end -}}
{{- $name -}}
{{- end }}

{{- define "longtake.cell" -}}
longtake-cell: {{ include "longtake.fullname" . }}
{{- end }}

{{/* Of a pod: (list context role) */}}
{{- define "longtake.selector" -}}
longtake-cell: {{ include "longtake.fullname" (first .) }}
longtake-role: {{ last . }}
{{- end }}

{{/* Of any object: (list context component) */}}
{{- define "longtake.labels" -}}
{{- $top := first . -}}
app.kubernetes.io/name: longtake
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/part-of: longtake
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- end }}

{{- define "longtake.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "longtake.fullname" .) }}
{{- else }}{{ required "serviceAccount.name: the name of one that exists, because serviceAccount.create is false" .Values.serviceAccount.name }}{{ end -}}
{{- end }}

{{/* (list context "frontend" or "worker") */}}
{{- define "longtake.image" -}}
{{- $image := index (first .).Values.image (last .) -}}
{{ $image.repository }}:{{ $image.tag | default (first .).Chart.AppVersion }}
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

{{/* Contradictions that a schema cannot see. */}}
{{- define "longtake.check" -}}
{{- $auth := .Values.config.auth | default dict -}}
{{- if and (not .Values.auth.tenantsSecret) (not $auth.allow_anonymous) }}
{{- fail "auth.tenantsSecret: name a Secret with tenants.toml, or set config.auth.allow_anonymous to let everybody in who reaches the port" }}
{{- end }}
{{- if and .Values.auth.tenantsSecret (not (include "longtake.tlsSecret" .)) (not $auth.allow_unencrypted) }}
{{- fail "auth.tenantsSecret: tokens could be read on their way; set tls.secretName, tls.certManager.enabled, or config.auth.allow_unencrypted behind a proxy that encrypts" }}
{{- end }}
{{- if and (include "longtake.tlsSecret" .) (not .Values.tls.privateCa) (gt (int .Values.drain.graceSeconds) 0) (not .Values.drain.server) }}
{{- fail "drain.server: a certificate of a public issuer has no name of the pod; say at which HOST:PORT it calls itself, or set drain.graceSeconds to 0" }}
{{- end }}
{{- if and .Values.tls.clientCa (not (include "longtake.tlsSecret" .)) }}
{{- fail "tls.clientCa: needs tls.secretName or tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.tls.secretName .Values.tls.certManager.enabled }}
{{- fail "tls.secretName: contradicts tls.certManager.enabled, which makes one" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.issuerRef: name the Issuer or ClusterIssuer that signs for clients" }}
{{- end }}
{{- $link := .Values.link -}}
{{- if and $link.certManager.enabled (or $link.engineSecret $link.workerSecret) }}
{{- fail "link.engineSecret and link.workerSecret: contradict link.certManager.enabled, which makes them" }}
{{- end }}
{{- if ne (empty $link.engineSecret) (empty $link.workerSecret) }}
{{- fail "link.engineSecret and link.workerSecret: both or none" }}
{{- end }}
{{- if and (not $link.certManager.enabled) (not $link.engineSecret) (not (.Values.config.link | default dict).network_trusted) }}
{{- fail "link.certManager.enabled: or link.engineSecret and link.workerSecret, or config.link.network_trusted where nobody can listen" }}
{{- end }}
{{- $denoise := .Values.workers.denoise -}}
{{- $split := int $denoise.layerSplit -}}
{{- if and (gt $split 1) $denoise.chainsInOnePod (ne (mod (int $denoise.perPod) $split) 0) }}
{{- fail (printf "workers.denoise.perPod: %d is no multiple of layerSplit %d, so a replica would not be in one pod; see chainsInOnePod" (int $denoise.perPod) $split) }}
{{- end }}
{{- if and (eq ((.Values.config.model | default dict).text_device | default "cpu") "cuda") (eq (int .Values.workers.text.replicas) 0) }}
{{- fail "workers.text.replicas: 1 or more, because config.model.text_device is cuda and pods of decode workers have no GPU to spare" }}
{{- end }}
{{- $ports := list (int .Values.service.port) (int .Values.link.port) (int .Values.link.meetingPort) (int .Values.metrics.port) (int .Values.page.port) 6379 6380 6381 6382 6383 6384 -}}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail (printf "service.port, link.port, link.meetingPort, metrics.port and page.port must differ from each other and from Ray's 6379 to 6384: %v" $ports) }}
{{- end }}
{{- end }}

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
metrics: {address: "0.0.0.0:{{ .Values.metrics.port }}", cell: {{ include "longtake.fullname" . }}}
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
{{- include "longtake.check" . -}}
{{- $all := mustMergeOverwrite (deepCopy .Values.config) (include "longtake.owned" . | fromYaml) -}}
# Made by the chart from its values.
{{- include "longtake.toml" (list "" $all) }}
{{- end }}

{{/* The parts that all pods of a cell have in common: Kubernetes' profile "restricted", and nothing of its API. */}}
{{- define "longtake.podSecurity" -}}
serviceAccountName: {{ include "longtake.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of a group of pods: (list context settings role) */}}
{{- define "longtake.scheduling" -}}
{{- $top := index . 0 -}}{{- $group := index . 1 -}}
{{- with $group.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $group.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $group.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $group.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $group.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "longtake.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* (list settings gpus) */}}
{{- define "longtake.resources" -}}
{{- $settings := first . -}}
resources:
  requests: {cpu: {{ $settings.resources.cpu | quote }}, memory: {{ $settings.resources.memory }}}
  limits:
    cpu: {{ $settings.resources.cpu | quote }}
    memory: {{ $settings.resources.memory }}
    {{- if gt (int (last .)) 0 }}
    nvidia.com/gpu: {{ last . }}
    {{- end }}
{{- end }}

{{/* A read-only root needs these: (list context settings link-side) */}}
{{- define "longtake.volumes" -}}
{{- $top := index . 0 -}}{{- $settings := index . 1 -}}{{- $side := index . 2 -}}
- {name: tmp, emptyDir: {}}
- {name: shared-mem, emptyDir: {medium: Memory, sizeLimit: {{ $settings.sharedMemory }}}}
{{- with $top.Values.modelVolume }}
- name: models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $side }}
{{- with include "longtake.linkSecret" (list $top $side) }}
- {name: link, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}

{{- define "longtake.mounts" -}}
{{- $top := index . 0 -}}{{- $side := index . 2 -}}
- {name: tmp, mountPath: /tmp}
- {name: shared-mem, mountPath: /dev/shm}
{{- if $top.Values.modelVolume }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if and $side (include "longtake.linkSecret" (list $top $side)) }}
- {name: link, mountPath: /etc/longtake-link, readOnly: true}
{{- end }}
{{- end }}

{{/* Ray's own settings, the same on all of its nodes. */}}
{{- define "longtake.rayEnvironment" -}}
- {name: HOME, value: /tmp}
# The labels `node` and `pod` of longtake_worker_info.
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
- {name: RAY_worker_niceness, value: "0"}
# A node is lost after some five seconds without an answer, not after fifteen.
- {name: RAY_health_check_initial_delay_ms, value: "5000"}
- {name: RAY_health_check_period_ms, value: "1000"}
- {name: RAY_health_check_timeout_ms, value: "1500"}
- {name: RAY_health_check_failure_threshold, value: "3"}
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

{{/* Pods of a group of workers: (list context role) */}}
{{- define "longtake.podCount" -}}
{{- $group := index (first .).Values.workers (last .) -}}
{{- $workers := mul $group.replicas ($group.layerSplit | default 1) -}}
{{- div (add $workers $group.perPod -1) $group.perPod -}}
{{- end }}
