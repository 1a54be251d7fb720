package build

import (
	"strings"
	"testing"
)

// TestInstructions builds every instruction and looks at what it did.
func TestInstructions(t *testing.T) {
	d := start(t)
	t.Run("files", func(t *testing.T) {
		out := build(d, files{
			"Dockerfile": `FROM busybox AS base
COPY a.txt b.txt /plain/
COPY --chown=33:100 --chmod=0640 a.txt /owned
COPY ["with space", "/spaces/"]
COPY sub /tree
COPY *.txt /glob/
COPY --parents sub/./deep/f /parents/
COPY --link a.txt /linked
COPY --exclude=*.md docs /docs/
COPY <<one <<"two" /here/
first $PATH
one
second $PATH
two
ADD archive.tar /unpacked/
ADD a.txt /added
WORKDIR /w/x
WORKDIR y
RUN pwd > /where
FROM base
COPY --from=base /plain/a.txt /from-stage
COPY --from=0 /owned /from-number
COPY --from=busybox /etc/group /from-image
`,
			"a.txt": "A", "b.txt": "B", "with space": "S", "sub/deep/f": "F", "sub/link": "-> deep/f", "docs/x.md": "M", "docs/x.c": "C",
			"archive.tar": string(files{"in/side": "T"}.tar(t)),
		}, "-t", "files")
		has(t, out, "Step 1/19 : FROM busybox AS base", "Step 2/19 : COPY a.txt b.txt /plain/", "Step 10/19 : COPY <<one <<\"two\" /here/", "Step 16/19 : FROM base", "Successfully built ", "Successfully tagged files:latest")
		got := run(d, "files", "sh", "-c", `cd /; for f in plain/a.txt plain/b.txt owned spaces/with\ space tree/deep/f tree/link glob/a.txt glob/b.txt parents/deep/f linked docs/x.c unpacked/in/side added where from-stage from-number; do echo "$f=$(cat "$f")"; done; stat -c '%u:%g %a' owned; readlink tree/link; ls docs; cat here/one here/two; head -n 1 from-image`)
		want := `plain/a.txt=A plain/b.txt=B owned=A spaces/with space=S tree/deep/f=F tree/link=F glob/a.txt=A glob/b.txt=B parents/deep/f=F linked=A docs/x.c=C unpacked/in/side=T added=A where=/w/x/y from-stage=A from-number=A 33:100 640 deep/f x.c first /bin second $PATH root:x:0:`
		if strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("run", func(t *testing.T) {
		out := build(d, files{"in": "bound", "Dockerfile": `# escape=` + "`" + `
FROM busybox
RUN echo shell form > /shell
RUN ["sh", "-c", "echo exec form > /exec"]
RUN <<EOF
set -e
echo heredoc > /heredoc
EOF
RUN --mount=type=bind,target=/ctx cp /ctx/in /bound
RUN --mount=type=cache,id=classic,target=/cache echo x >> /cache/n && wc -l < /cache/n > /count
RUN --mount=type=tmpfs,target=/fast mount | grep -c ' /fast ' > /tmpfs
RUN --network=none ip -o link | wc -l > /links
SHELL ["/bin/sh", "-xc"]
RUN echo traced ` + "`" + `
  lines
USER nobody
RUN id -un | tee /tmp/user; echo to-stderr >&2
`}, "-t", "ran", "--no-cache")
		has(t, out, "Step 2/12 : RUN echo shell form > /shell", "---> Running in ", "Removing intermediate container ", " ---> ", "traced lines", "nobody", "Successfully built")
		got := run(d, "ran", "sh", "-c", "cat /shell /exec /heredoc /bound /count /tmpfs /links /tmp/user; ls -A /ctx /cache /fast 2>/dev/null; true")
		if want := "shell form exec form heredoc bound1 1 1 nobody"; !strings.HasPrefix(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("settings", func(t *testing.T) {
		build(d, files{"Dockerfile": `ARG TAG=latest
FROM busybox:$TAG
MAINTAINER somebody
ARG GREETING=hello
ARG UNSET
ENV A="$GREETING world" B=$UNSET
ENV OLD form
LABEL a=b "c d"="e $A"
EXPOSE 80 53/udp
VOLUME ["/data", "/more"]
WORKDIR /work
USER 33:100
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=2s --start-period=1s --retries=4 CMD test -e /ok
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $A in $(pwd) as $(id -u)"]
ONBUILD RUN echo triggered > /tmp/trigger
`}, "-t", "settings", "--build-arg", "GREETING=hi")
		got := d.OK("inspect", "-f", `{{json .Config.Env}} {{json .Config.Labels}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.WorkingDir}} {{.Config.User}} {{.Config.StopSignal}} {{json .Config.Entrypoint}} {{json .Config.OnBuild}} {{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}} {{.Author}}`, "settings")
		want := `["PATH=/bin","A=hi world","B=","OLD=form"] {"a":"b","c d":"e hi world"} {"53/udp":{},"80/tcp":{}} {"/data":{},"/more":{}} /work 33:100 SIGUSR1 ["/bin/sh","-c"] ["RUN echo triggered > /tmp/trigger"] ["CMD-SHELL","test -e /ok"] 4 somebody`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := run(d, "settings"); got != "hi world in /work as 33" {
			t.Errorf("ran %q", got)
		}
		out := build(d, files{"Dockerfile": "FROM settings\nRUN cat /tmp/trigger\n"}, "-t", "child")
		has(t, out, "Step 1/2 : FROM settings", "# Executing 1 build trigger", "Step 2/2 : RUN cat /tmp/trigger", "triggered")
		if got := d.OK("inspect", "-f", "{{json .Config.OnBuild}}", "child"); got != "null" && got != "[]" {
			t.Errorf("triggers are inherited: %s", got)
		}
	})
	t.Run("platform arguments", func(t *testing.T) {
		build(d, files{"Dockerfile": `FROM --platform=$BUILDPLATFORM busybox
ARG TARGETPLATFORM
ARG TARGETOS
ARG TARGETARCH
RUN echo "$TARGETPLATFORM $TARGETOS $TARGETARCH" > /p
`}, "-t", "platform")
		if got := run(d, "platform", "cat", "/p"); got != "linux/amd64 linux amd64" && got != "linux/arm64 linux arm64" {
			t.Error(got)
		}
	})
}
