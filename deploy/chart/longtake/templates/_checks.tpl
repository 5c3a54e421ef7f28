{{/* Contradictions that a schema cannot see, and what a cluster would refuse only later, when a pod is made. */}}
{{- define "longtake.check" -}}
{{- include "longtake.checkCallers" . }}
{{- include "longtake.checkLink" . }}
{{- include "longtake.checkPorts" . }}
{{- include "longtake.checkWorkers" . }}
{{- include "longtake.checkPods" . }}
{{- include "longtake.checkFiles" . }}
{{- include "longtake.checkRoute" . }}
{{- include "longtake.checkLive" . }}
{{- end }}

{{- define "longtake.checkCallers" -}}
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
{{- end }}

{{- define "longtake.checkLink" -}}
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
{{- end }}

{{- define "longtake.checkPorts" -}}
{{- $own := list (int .Values.service.port) (int .Values.link.port) (int .Values.link.meetingPort) (int .Values.metrics.port) (int .Values.page.port) -}}
{{- $ray := list 6379 -}}
{{- $names := include "longtake.rayPorts" . | fromYaml -}}
{{- range $name, $port := $names }}{{ if not (hasSuffix "worker-port" $name) }}{{ $ray = append $ray (int $port) }}{{ end }}{{ end -}}
{{- $ports := concat $own $ray -}}
{{- $first := index $names "min-worker-port" | int -}}{{- $last := index $names "max-worker-port" | int -}}
{{- $taken := ne (len $ports) (len (uniq $ports)) -}}
{{- range $own }}{{ if and (ge . $first) (le . $last) }}{{ $taken = true }}{{ end }}{{ end -}}
{{- if $taken }}
{{- fail (printf "service.port, link.port, link.meetingPort, metrics.port and page.port: %v; they must differ from each other and from Ray's %v and %d to %d" $own $ray $first $last) }}
{{- end }}
{{- end }}

{{- define "longtake.checkWorkers" -}}
{{- $denoise := .Values.workers.denoise -}}
{{- $split := int $denoise.layerSplit -}}
{{- if and (gt $split 1) $denoise.chainsInOnePod (ne (mod (int $denoise.perPod) $split) 0) }}
{{- fail (printf "workers.denoise.perPod: %d is no multiple of layerSplit %d, so a replica would not be in one pod; see chainsInOnePod" (int $denoise.perPod) $split) }}
{{- end }}
{{- if and (eq ((.Values.config.model | default dict).text_device | default "cpu") "cuda") (eq (int .Values.workers.text.replicas) 0) }}
{{- fail "workers.text.replicas: 1 or more, because config.model.text_device is cuda and pods of decode workers have no GPU to spare" }}
{{- end }}
{{- range $role := include "longtake.workerRoles" . | fromJsonArray }}
{{- $gpus := include "longtake.gpus" (list $ $role) | int -}}
{{- $workers := include "longtake.workerCount" (list $ $role) | int -}}
{{- $held := mul $gpus (include "longtake.podCount" (list $ $role) | int) | int -}}
{{- if and (gt $gpus 0) (ne $held $workers) }}
{{- fail (printf "workers.%s.perPod: pods of %d hold %d GPUs for %d workers; choose one that divides %d, because every pod of a group asks for as many" $role $gpus $held $workers $workers) }}
{{- end }}
{{- if and (gt $gpus 1) (hasPrefix "nvidia.com/mig-" $.Values.gpu.resource) }}
{{- fail (printf "workers.%s.perPod: 1 with gpu.resource %s, because a process sees no more than one slice" $role $.Values.gpu.resource) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Volumes and environment of every pod, after lists of `pods` and of the group were joined. */}}
{{- define "longtake.checkPods" -}}
{{- include "longtake.checkSource" (list "modelVolume" .Values.modelVolume) }}
{{- include "longtake.checkSource" (list "journalVolume" .Values.journalVolume) }}
{{- range $kind, $source := .Values.journalVolume }}
{{- if has $kind (list "configMap" "downwardAPI" "image" "projected" "secret") }}
{{- fail (printf "journalVolume.%s: a journal is written, and this kind of volume cannot be; take a persistentVolumeClaim" $kind) }}
{{- end }}
{{- if $source.readOnly }}
{{- fail (printf "journalVolume.%s.readOnly: a journal is written; leave it out" $kind) }}
{{- end }}
{{- end }}
{{- range $name, $group := include "longtake.groups" . | fromYaml }}
{{- $front := eq $name "frontend" -}}
{{- $side := ternary "engine" (ternary "" "worker" (eq $name "ray.head")) $front -}}
{{- $volumes := include "longtake.volumes" (list $ $group $side) -}}
{{- $mounts := include "longtake.mounts" (list $ $group $side) -}}
{{- $environment := include "longtake.rayEnvironment" $ -}}
{{- if $front }}
{{- $volumes = printf "%s\n%s" $volumes (include "longtake.engineVolumes" $) }}
{{- $mounts = printf "%s\n%s" $mounts (include "longtake.engineMounts" $) }}
{{- $environment = printf "%s\n%s" $environment (include "longtake.engineEnvironment" $) }}
{{- end }}
{{- $volumes = $volumes | fromYamlArray -}}
{{- $mounts = $mounts | fromYamlArray -}}
{{- $environment = concat ($environment | fromYamlArray) ($group.extraEnv | default list) -}}
{{- include "longtake.checkTwice" (list $name "extraVolumes" "name" $volumes) }}
{{- include "longtake.checkTwice" (list $name "extraVolumeMounts" "mountPath" $mounts) }}
{{- include "longtake.checkTwice" (list $name "extraEnv" "name" $environment) }}
{{- include "longtake.checkTwice" (list $name "initContainers" "name" ($group.initContainers | default list)) }}
{{- range $volume := $group.extraVolumes }}
{{- include "longtake.checkSource" (list (printf "%s.extraVolumes.%s" $name $volume.name) (omit $volume "name")) }}
{{- end }}
{{- $named := dict -}}
{{- range $volumes }}{{ $_ := set $named .name true }}{{ end -}}
{{- range $mount := $mounts }}
{{- if not (hasKey $named $mount.name) }}
{{- fail (printf "%s.extraVolumeMounts: there is no volume %s, only %s; see extraVolumes" $name $mount.name (keys $named | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- range $container := $group.initContainers }}
{{- range $mount := $container.volumeMounts }}
{{- if not (hasKey $named $mount.name) }}
{{- fail (printf "%s.initContainers.%s.volumeMounts: there is no volume %s, only %s; see extraVolumes" $name $container.name $mount.name (keys $named | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The groups of pods by the name of their values, with their settings. */}}
{{- define "longtake.groups" -}}
frontend: {{- include "longtake.settings" (list . .Values.frontend) | nindent 2 }}
ray.head: {{- include "longtake.settings" (list . .Values.ray.head) | nindent 2 }}
{{- range $role := include "longtake.workerRoles" . | fromJsonArray }}
workers.{{ $role }}: {{- include "longtake.settings" (list $ (index $.Values.workers $role)) | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list where key field things): each thing has another value of the field, as Kubernetes wants it */}}
{{- define "longtake.checkTwice" -}}
{{- $field := index . 2 -}}{{- $seen := dict -}}
{{- range $thing := index . 3 }}
{{- $value := get $thing $field -}}
{{- if hasKey $seen $value }}
{{- fail (printf "%s.%s: %s %s is there twice, or is the chart's own; choose another" (index $ 0) (index $ 1) $field $value) }}
{{- end }}
{{- $_ := set $seen $value true }}
{{- end }}
{{- end }}

{{/* (list where source): a kind of volume that the profile "restricted" lets pods have */}}
{{- define "longtake.checkSource" -}}
{{- $allowed := list "configMap" "csi" "downwardAPI" "emptyDir" "ephemeral" "image" "persistentVolumeClaim" "projected" "secret" -}}
{{- range $kind, $_ := index . 1 }}
{{- if not (has $kind $allowed) }}
{{- fail (printf "%s.%s: Kubernetes' profile \"restricted\", which these pods keep, bars this kind of volume; allowed are %s (a PersistentVolume may be of any kind, %s too)" (first $) $kind (join ", " $allowed) $kind) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Files that the configuration names lie where something is mounted. */}}
{{- define "longtake.checkFiles" -}}
{{- $config := .Values.config -}}
{{- $model := ($config.model | default dict).path | default "pocket" -}}
{{- if and (ne $model "pocket") (not (isAbs $model)) }}
{{- fail (printf "config.model.path: %s is no absolute path; it is \"pocket\", or a folder such as /models/%s" $model (base $model)) }}
{{- end }}
{{- $groups := include "longtake.groups" . | fromYaml -}}
{{- range $name, $group := $groups }}
{{- if ne $name "ray.head" }}
{{- $mounted := ternary (list "/models") list (not (empty $.Values.modelVolume)) -}}
{{- $writable := list "/tmp" "/dev/shm" -}}
{{- if and $.Values.journalVolume (eq $name "frontend") }}{{ $writable = append $writable "/var/lib/longtake" }}{{ end -}}
{{- range $group.extraVolumeMounts }}
{{- $mounted = append $mounted .mountPath }}
{{- if not .readOnly }}{{ $writable = append $writable .mountPath }}{{ end }}
{{- end }}
{{- if and (hasPrefix "/models/" (printf "%s/" $model)) (not (include "longtake.below" (list $model $mounted))) }}
{{- fail (printf "config.model.path: nothing is mounted at %s in the pods of %s; say by modelVolume where /models comes from" $model $name) }}
{{- end }}
{{- $written := ternary (dict "config.recording.file" ($config.recording | default dict).file "config.auth.audit" ($config.auth | default dict).audit) (dict "config.cluster.profiles" ($config.cluster | default dict).profiles) (eq $name "frontend") -}}
{{- range $key, $file := $written }}
{{- if and $file (isAbs $file) (not (include "longtake.below" (list $file $writable))) }}
{{- fail (printf "%s: %s cannot be written in the pods of %s, whose root is read-only; below %s it can (see extraVolumeMounts)" $key $file $name (join ", " $writable)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* (list path folders): whether the path lies in one of the folders; empty if not */}}
{{- define "longtake.below" -}}
{{- $path := printf "%s/" (clean (first .)) -}}
{{- range last . }}{{ if hasPrefix (printf "%s/" (clean .)) $path }}yes{{ end }}{{ end -}}
{{- end }}

{{- define "longtake.checkRoute" -}}
{{- if and .Values.route.enabled (not .Values.route.parentRefs) }}
{{- fail "route.parentRefs: name the Gateway that the route belongs to, such as [{name: public, namespace: gateways}]" }}
{{- end }}
{{- end }}

{{/* What would end streams, or be there twice, in the cluster as it is now. Nothing where helm does not ask a cluster. */}}
{{- define "longtake.checkLive" -}}
{{- if and (.Capabilities.APIVersions.Has "ray.io/v1") (not .Values.workers.allowShrink) }}
{{- $wanted := dict -}}
{{- range $role := include "longtake.workerRoles" . | fromJsonArray }}{{ $_ := set $wanted $role (include "longtake.podCount" (list $ $role) | int) }}{{ end -}}
{{- range $live := (lookup "ray.io/v1" "RayCluster" .Release.Namespace "").items }}
{{- if eq (dig "labels" "app.kubernetes.io/instance" "" $live.metadata) $.Release.Name }}
{{- if ne $live.metadata.name (include "longtake.fullname" $) }}
{{- fail (printf "fullnameOverride: this release's cell is called %s, and under another name it would be deleted with its streams; keep the name, or drain the cell and set workers.allowShrink to true for this upgrade (docs/operations.md)" $live.metadata.name) }}
{{- end }}
{{- range $group := $live.spec.workerGroupSpecs }}
{{- $pods := get $wanted $group.groupName | default 0 | int -}}
{{- if lt $pods (int $group.replicas) }}
{{- fail (printf "workers.%s.replicas: %d pods instead of %d, and KubeRay deletes running ones at once; drain the cell, then set workers.allowShrink to true for this upgrade (docs/operations.md, \"Fewer workers\")" $group.groupName $pods (int $group.replicas)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.shared.enabled (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") }}
{{- range $rule := (lookup "monitoring.coreos.com/v1" "PrometheusRule" .Release.Namespace "").items }}
{{- $labels := $rule.metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") "longtake") (ne (get $labels "app.kubernetes.io/instance") $.Release.Name) }}
{{- fail (printf "metrics.shared.enabled: the release %s has rules and dashboards already, which are about all cells; leave it out here" (get $labels "app.kubernetes.io/instance")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
