{{/* The settings of a group of pods with those of all pods: maps are merged, lists joined, of other things the group's
own counts. (list context group) */}}
{{- define "longtake.settings" -}}
{{- $all := (first .).Values.pods -}}{{- $own := last . -}}
{{- $made := deepCopy $own -}}
{{- range $key := list "podLabels" "podAnnotations" "nodeSelector" }}
{{- $_ := set $made $key (merge (deepCopy (get $own $key | default dict)) (get $all $key | default dict)) }}
{{- end }}
{{- range $key := list "tolerations" "topologySpreadConstraints" "extraEnv" "extraEnvFrom" "extraVolumes" "extraVolumeMounts" "initContainers" }}
{{- $_ := set $made $key (concat (get $all $key | default list) (get $own $key | default list)) }}
{{- end }}
{{- range $key := list "affinity" "priorityClassName" "runtimeClassName" "schedulerName" "tmp" }}
{{- $_ := set $made $key (get $own $key | default (get $all $key)) }}
{{- end }}
{{- toYaml $made -}}
{{- end }}

{{/* (list context settings role) */}}
{{- define "longtake.podMetadata" -}}
{{- $top := index . 0 -}}{{- $settings := index . 1 -}}{{- $role := index . 2 -}}
labels:
  {{- include "longtake.commonLabels" (list $top $role) | nindent 2 }}
  {{- include "longtake.selector" (list $top $role) | nindent 2 }}
  {{- with $settings.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $settings.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The parts that all pods of a cell have in common: Kubernetes' profile "restricted", and nothing of its API. */}}
{{- define "longtake.podSecurity" -}}
serviceAccountName: {{ include "longtake.serviceAccount" . | quote }}
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

{{/* Where and before whom a pod runs, and what runs in it first: settings */}}
{{- define "longtake.scheduling" -}}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" }}
{{- with get $ $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $ $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .initContainers }}
initContainers:
{{- $security := include "longtake.containerSecurity" . | fromYaml }}
{{- range . }}
  - {{- toYaml (merge (deepCopy .) $security) | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "longtake.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* (list context settings gpus) */}}
{{- define "longtake.resources" -}}
{{- $resources := (index . 1).resources -}}
resources:
  requests: {cpu: {{ $resources.cpu | quote }}, memory: {{ $resources.memory | quote }}}
  limits:
    cpu: {{ $resources.cpu | quote }}
    memory: {{ $resources.memory | quote }}
    {{- if gt (int (last .)) 0 }}
    {{ (first .).Values.gpu.resource }}: {{ last . }}
    {{- end }}
{{- end }}

{{/* A read-only root needs these: (list context settings link-side) */}}
{{- define "longtake.volumes" -}}
{{- $top := index . 0 -}}{{- $settings := index . 1 -}}{{- $side := index . 2 -}}
- {name: tmp, emptyDir: {sizeLimit: {{ $settings.tmp | quote }}}}
- {name: shared-mem, emptyDir: {medium: Memory, sizeLimit: {{ $settings.sharedMemory | quote }}}}
{{- with $top.Values.modelVolume }}
- name: models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $side }}
{{- with include "longtake.linkSecret" (list $top $side) }}
- {name: link, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- with $settings.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "longtake.mounts" -}}
{{- $top := index . 0 -}}{{- $settings := index . 1 -}}{{- $side := index . 2 -}}
- {name: tmp, mountPath: /tmp}
- {name: shared-mem, mountPath: /dev/shm}
{{- if $top.Values.modelVolume }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if and $side (include "longtake.linkSecret" (list $top $side)) }}
- {name: link, mountPath: /etc/longtake-link, readOnly: true}
{{- end }}
{{- with $settings.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the engine's pod has besides: its files, and Ray's token as one, which no environment of a process shows. */}}
{{- define "longtake.engineVolumes" -}}
- {name: config, configMap: {name: {{ include "longtake.configName" . | quote }}}}
- {name: ray-token, secret: {secretName: {{ include "longtake.raySecret" . | quote }}, items: [{key: auth_token, path: auth_token}], defaultMode: 0440}}
{{- with .Values.journalVolume }}
- name: journal
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "longtake.tlsSecret" . }}
- {name: tls, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.auth.tenantsSecret }}
- {name: tenants, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.drain.tokenSecret }}
- {name: operator, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- end }}

{{- define "longtake.engineMounts" -}}
- {name: config, mountPath: /etc/longtake, readOnly: true}
- {name: ray-token, mountPath: /etc/longtake-ray, readOnly: true}
{{- if .Values.journalVolume }}
- {name: journal, mountPath: /var/lib/longtake}
{{- end }}
{{- if include "longtake.tlsSecret" . }}
- {name: tls, mountPath: /etc/longtake-tls, readOnly: true}
{{- end }}
{{- if .Values.auth.tenantsSecret }}
- {name: tenants, mountPath: /etc/longtake-tenants, readOnly: true}
{{- end }}
{{- if .Values.drain.tokenSecret }}
- {name: operator, mountPath: /etc/longtake-operator, readOnly: true}
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

{{/* What the engine's container is told besides. */}}
{{- define "longtake.engineEnvironment" -}}
{{- $full := include "longtake.fullname" . -}}
{{- $tls := include "longtake.tlsSecret" . -}}
- {name: RAY_AUTH_MODE, value: token}
- {name: RAY_AUTH_TOKEN_PATH, value: /etc/longtake-ray/auth_token}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
# What `longtake` commands in this pod speak with: itself, by a name that its certificate has.
- {name: LONGTAKE_SERVER, value: "{{ .Values.drain.server | default (printf "%s-0.%s-headless.%s.svc:%d" $full $full .Release.Namespace (int .Values.service.port)) }}"}
{{- if and $tls .Values.tls.privateCa }}
- {name: LONGTAKE_CA, value: /etc/longtake-tls/ca.crt}
{{- else if $tls }}
- {name: LONGTAKE_TLS, value: "1"}
{{- end }}
{{- if .Values.tls.clientCa }}
- {name: LONGTAKE_CERTIFICATE, value: /etc/longtake-tls/tls.crt}
- {name: LONGTAKE_KEY, value: /etc/longtake-tls/tls.key}
{{- end }}
{{- if .Values.drain.tokenSecret }}
- {name: LONGTAKE_TOKEN_FILE, value: /etc/longtake-operator/token}
{{- end }}
{{- end }}

{{/* A container's own settings beside the chart's: settings */}}
{{- define "longtake.extraEnvironment" -}}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
