package launch

import (
	"context"
	"regexp"
	"strings"
	"time"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
)

// Shipper sends what containers write on to log servers. Implemented by service/engine/logship.
type Shipper interface {
	// Check refuses drivers and options that are not known.
	Check(driver string, options map[string]string) error
	// Follow begins with a container, or goes on with it; a second call for the same one changes nothing.
	Follow(t logs.Target)
	// Finish sends what is left, for a limited time, and forgets the container. Its log may be removed afterwards.
	Finish(ctx context.Context, id string)
}

// ShipLogs has a container's lines sent to its log server from now on, if it has one.
func (l *Launcher) ShipLogs(rec *core.Record) error {
	if !remote(rec.HostConfig.LogConfig.Type) || l.Shipper == nil {
		return nil
	}
	t, err := l.logTarget(rec)
	if err == nil {
		l.Shipper.Follow(t)
	}
	return err
}

// FinishLogs ends that; the container is about to lose its files.
func (l *Launcher) FinishLogs(ctx context.Context, id string) {
	if l.Shipper != nil {
		l.Shipper.Finish(ctx, id)
	}
}

func (l *Launcher) logTarget(rec *core.Record) (logs.Target, error) {
	c := rec.HostConfig.LogConfig
	attrs, err := logAttrs(rec, c.Config)
	if err != nil {
		return logs.Target{}, err
	}
	tag := attrs["tag"]
	delete(attrs, "tag")
	p, args := rec.Command()
	return logs.Target{
		Driver: c.Type, Options: c.Config, Source: l.logSource(rec),
		Origin: logs.Origin{
			ID: rec.ID, Name: "/" + rec.Name, ImageID: rec.Image.ID.String(), ImageName: rec.Config.Image,
			Command: strings.Join(append([]string{p}, args...), " "), Created: rec.Created.UTC().Truncate(time.Nanosecond), Tag: tag, Attrs: attrs,
		},
	}, nil
}

// logAttrs are the extra attributes of each line: chosen labels and variables, and the tag.
func logAttrs(rec *core.Record, opts map[string]string) (map[string]string, error) {
	attrs, err := chosen(rec, opts)
	if err != nil {
		return nil, err
	}
	if tag := opts["tag"]; tag != "" {
		text, err := renderTag(rec, tag)
		if err != nil {
			return nil, fault.Invalid("invalid value for tag: %v", err)
		}
		attrs["tag"] = text
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// chosen are the labels and variables that the options name.
func chosen(rec *core.Record, opts map[string]string) (map[string]string, error) {
	attrs := map[string]string{}
	env := map[string]string{}
	for _, kv := range rec.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, set := range []struct {
		list, pattern string
		from          map[string]string
	}{{opts["labels"], opts["labels-regex"], rec.Config.Labels}, {opts["env"], opts["env-regex"], env}} {
		for _, k := range strings.Split(set.list, ",") {
			if v, ok := set.from[k]; ok {
				attrs[k] = v
			}
		}
		if set.pattern == "" {
			continue
		}
		re, err := regexp.Compile(set.pattern)
		if err != nil {
			return nil, err
		}
		for k, v := range set.from {
			if re.MatchString(k) {
				attrs[k] = v
			}
		}
	}
	return attrs, nil
}
