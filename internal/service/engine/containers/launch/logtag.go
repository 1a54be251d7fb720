package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
	"time"
	"unicode"

	core "longshore/internal/core/container"
)

// tagData is what a tag template may use, as docker documents it.
type tagData struct {
	ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName, Command string
	tagContainer
}

// tagContainer are fields that templates written for dockerd find besides.
type tagContainer struct {
	ContainerID, ContainerName, ContainerEntrypoint, ContainerImageID, ContainerImageName string
	ContainerArgs, ContainerEnv                                                           []string
	ContainerLabels, Config                                                               map[string]string
	ContainerCreated                                                                      time.Time

	extra map[string]string
}

// ExtraAttributes are the labels and variables that the options choose; a function to rename them is not to be had in templates.
func (d tagContainer) ExtraAttributes(any) map[string]string { return d.extra }

// Hostname is this host's name.
func (d tagContainer) Hostname() (string, error) { return os.Hostname() }

// tagFuncs are docker's functions for templates.
var tagFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(v)
		return strings.TrimSpace(b.String()), err
	},
	"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper, "title": title,
	"pad": func(s string, before, after int) string {
		if s == "" {
			return ""
		}
		return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
	},
	"truncate": func(s string, n int) string { return s[:max(0, min(n, len(s)))] },
}

// title has each word begin with a capital.
func title(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		first := !inWord
		if inWord = unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_'; inWord && first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// renderTag makes the tag of a container's lines.
func renderTag(rec *core.Record, tag string) (string, error) {
	t, err := template.New("tag").Funcs(tagFuncs).Parse(tag)
	if err != nil {
		return "", err
	}
	hex := rec.Image.ID.Encoded()
	p, args := rec.Command()
	d := tagData{
		ID: rec.ID[:12], FullID: rec.ID, Name: rec.Name, ImageID: hex[:min(12, len(hex))], ImageFullID: rec.Image.ID.String(),
		ImageName: rec.Config.Image, DaemonName: "docker", Command: strings.Join(append([]string{p}, args...), " "),
		tagContainer: tagContainer{
			ContainerID: rec.ID, ContainerName: "/" + rec.Name, ContainerEntrypoint: p, ContainerArgs: args, ContainerImageID: rec.Image.ID.String(),
			ContainerImageName: rec.Config.Image, ContainerEnv: rec.Config.Env, ContainerLabels: rec.Config.Labels, ContainerCreated: rec.Created,
		},
	}
	if rec.HostConfig != nil {
		d.Config = rec.HostConfig.LogConfig.Config
		if d.extra, err = chosen(rec, d.Config); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("render: %w", err)
	}
	return b.String(), nil
}
