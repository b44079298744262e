{{- define "embedscale.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "embedscale.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Labels and annotations of a pod, with those that values give to all: (dict "labels" TEXT "annotations" DICT "pods" PODS) */}}
{{- define "embedscale.podMetadata" -}}
labels:
  {{- .labels | nindent 2 }}
  {{- with .pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) .pods.annotations (default dict .annotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a pod of any component has: (dict "root" $ "component" "evaluator" "pods" PODS) */}}
{{- define "embedscale.pod" -}}
serviceAccountName: {{ include "embedscale.name" (dict "root" .root "component" .component) }}
automountServiceAccountToken: false
# Services would be announced as EMBEDSCALE_..._PORT, which are names of settings.
enableServiceLinks: false
securityContext:
  {{- include "embedscale.podSecurity" .pods.userId | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" }}
{{- with get $.pods $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
A server as a Deployment. `group` says which (component, pool), `values` what it is given, `pods` those of `pods` where they are not
the usual ones, `role` its image, `service` the gRPC service whose health is readiness (none for HTTP), `env`, `volumes`, `mounts` and `init` what is its own.
*/}}
{{- define "embedscale.deployment" -}}
{{- $root := .root -}}
{{- $who := mustMerge (dict "root" $root) .group -}}
{{- $v := .values -}}
{{- $pods := .pods | default (mustMergeOverwrite (deepCopy $root.Values.pods) $v.pods) -}}
{{- $port := include "embedscale.port" .group.component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "embedscale.name" $who }}
  labels:
    {{- include "embedscale.labels" $who | nindent 4 }}
spec:
  {{- if eq (dig "autoscaling" "kind" "none" $v) "none" }}
  replicas: {{ $v.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # Ten minutes, the default, are less than a model may take to be fetched and loaded.
  progressDeadlineSeconds: {{ max 600 (mul 120 (int (dig "startupMinutes" 0 $v))) }}
  strategy:
    rollingUpdate: {maxSurge: {{ $pods.maxSurge }}, maxUnavailable: {{ $pods.maxUnavailable }}}
  selector:
    matchLabels:
      {{- include "embedscale.selector" $who | nindent 6 }}
  template:
    metadata:
      {{- /* Servers read their catalog once: another one starts them anew. */}}
      {{- $catalog := dict "embedscale/catalog" (toJson $root.Values.catalog | sha256sum | trunc 16) }}
      {{- include "embedscale.podMetadata" (dict "labels" (include "embedscale.labels" $who) "annotations" $catalog "pods" $pods) | nindent 6 }}
    spec:
      {{- include "embedscale.pod" (dict "root" $root "component" .group.component "pods" $pods) | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "embedscale.grace" $root }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "embedscale.selector" $who | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- with .init }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .group.component }}
          image: {{ include "embedscale.image" (dict "root" $root "role" .role) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          env:
            - name: EMBEDSCALE_PORT
              value: {{ $port | quote }}
            {{- include "embedscale.env.listener" $root | nindent 12 }}
            {{- if .service }}
            {{- include "embedscale.env.grpc" $root | nindent 12 }}
            {{- end }}
            {{- .env | nindent 12 }}
            {{- include "embedscale.settings" (mustMergeOverwrite (deepCopy $root.Values.settings) $v.settings) | nindent 12 }}
            {{- with $pods.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: {{ ternary "grpc" "http" (not (empty .service)) }}, containerPort: {{ $port }}}
            {{- if .service }}
            - {name: health, containerPort: 50052}
            {{- end }}
            - {name: metrics, containerPort: 9090}
          {{- include "embedscale.probes" . | nindent 10 }}
          lifecycle:
            preStop: {sleep: {seconds: {{ $root.Values.lifecycle.preStopSeconds }}}}
          securityContext:
            {{- include "embedscale.containerSecurity" . | nindent 12 }}
          resources:
            {{- .resources | default (toYaml $v.resources) | nindent 12 }}
          volumeMounts:
            {{- include "embedscale.mounts" (dict "root" $root "component" .group.component) | nindent 12 }}
            - {name: home, mountPath: /var/lib/embedscale}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $pods.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "embedscale.volumes" (dict "root" $root "component" .group.component) | nindent 8 }}
        - name: home
          emptyDir: {sizeLimit: {{ .homeSize | default "1Gi" }}}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $pods.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{/* The kubelet waits for preStop, then for draining, then a little for what is closed after it. */}}
{{- define "embedscale.grace" -}}
{{- add (int .Values.lifecycle.preStopSeconds) (int .Values.lifecycle.drainSeconds) 15 -}}
{{- end -}}

{{/* Probes are answered on a port of their own, since the kubelet knows neither TLS nor tokens. */}}
{{- define "embedscale.probes" -}}
{{- $failures := mul 6 (int (dig "startupMinutes" 2 .values)) -}}
{{- if .service -}}
startupProbe:
  grpc: {port: 50052, service: {{ .service }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ $failures }}
readinessProbe:
  grpc: {port: 50052, service: {{ .service }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  grpc: {port: 50052, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- else -}}
{{- $scheme := ternary "HTTPS" "HTTP" (not (empty .root.Values.tls.secretName)) -}}
startupProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
{{- end -}}
