{{- define "cr.labels" -}}
app.kubernetes.io/name: chainreactions
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cr.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion | toString }}
{{- end }}

{{- define "cr.claim" -}}
{{ .Values.data.existingClaim | default (printf "%s-data" .Release.Name) }}
{{- end }}

{{- define "cr.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Whether gateways go by the names of this release's services. */}}
{{- define "cr.byName" -}}
{{- if not (has .Values.discovery (list "redis" "services")) }}{{ fail "discovery is redis or services" }}{{ end }}
{{- if or .Values.istio.enabled (eq .Values.discovery "services") }}yes{{ end }}
{{- end }}

{{- define "cr.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "cr.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* One role's pods. Takes root, role, spec, name, track, image, replicas. */}}
{{- define "cr.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "cr.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  {{- if .replicas }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      app.kubernetes.io/instance: {{ .root.Release.Name }}
      app.kubernetes.io/component: {{ .role }}
      track: {{ .track }}
  template:
    metadata:
      labels:
        {{- include "cr.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .role }}
        track: {{ .track }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .spec.port | quote }}
        checksum/config: {{ toYaml .root.Values.config | sha256sum }}
    spec:
      serviceAccountName: {{ .root.Release.Name }}
      automountServiceAccountToken: false
      {{- include "cr.pullSecrets" .root | nindent 6 }}
      terminationGracePeriodSeconds: 60
      securityContext:
        {{- include "cr.podSecurity" .root | nindent 8 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              app.kubernetes.io/instance: {{ .root.Release.Name }}
              app.kubernetes.io/component: {{ .role }}
      containers:
        - name: chainreactions
          image: {{ .image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: [serve, "--roles={{ .role }}"]
          envFrom:
            - configMapRef: {name: {{ .root.Release.Name }}}
            - secretRef: {name: {{ .root.Values.secret.existing }}}
          env:
            - name: POD_IP
              valueFrom: {fieldRef: {fieldPath: status.podIP}}
            - {name: HTTP_ADDR, value: ":{{ .spec.port }}"}
            - {name: ADVERTISE_ADDR, value: "$(POD_IP):{{ .spec.port }}"}
            {{- if include "cr.byName" .root }}
            {{- $peers := list }}
            {{- range $role, $spec := .root.Values.roles }}
            {{- $peers = append $peers (printf "%s=%s-%s:%v" $role $.root.Release.Name $role $spec.port) }}
            {{- end }}
            - {name: PEERS, value: {{ join "," $peers | quote }}}
            {{- end }}
          ports:
            - {name: http, containerPort: {{ .spec.port }}}
          startupProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 3
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 2
            timeoutSeconds: 3
            failureThreshold: 2
          resources:
            requests: {cpu: {{ .spec.cpu }}, memory: {{ .spec.memory }}}
            limits: {memory: {{ .spec.memory }}}
          securityContext:
            {{- include "cr.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /data}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: {{ include "cr.claim" .root }}}
        - name: tmp
          emptyDir: {}
{{- end }}
