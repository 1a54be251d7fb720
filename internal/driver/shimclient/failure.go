package shimclient

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/runtime"
)

// Docker's exit codes of commands that could not be run.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
	codeFailed        = 128
)

// startFailure makes docker's error of a container start from what the OCI runtime logged.
func startFailure(l runtime.Launch, text string) *runtime.StartError {
	if strings.HasPrefix(text, "failed to initialize logging driver: ") {
		return &runtime.StartError{Code: codeFailed, Message: text}
	}
	words := lastWords(text)
	name := runtimeName(l.Runtime)
	words = strings.Replace(words, name+" run failed: ", name+" create failed: ", 1)
	if cause, ok := commandFault(words, firstArg(l)); ok {
		words = name + " create failed: unable to start container process: " + cause
	} else if !strings.HasPrefix(words, name) {
		words = name + ": " + words
	}
	message := "failed to create task for container: failed to create shim task: OCI runtime create failed: " + words + ": unknown"
	return coded(message)
}

// execFailure makes docker's error of an exec.
func execFailure(p *specs.Process, text string) *runtime.StartError {
	words := lastWords(text)
	arg := ""
	if len(p.Args) > 0 {
		arg = p.Args[0]
	}
	if cause, ok := commandFault(words, arg); ok {
		words = "exec failed: unable to start container process: " + cause
	} else if !strings.HasPrefix(words, "exec failed") && !strings.HasPrefix(words, "runc exec failed") {
		words = "exec failed: " + words
	}
	words = strings.TrimPrefix(words, "runc ")
	return coded("OCI runtime exec failed: " + words + ": unknown")
}

// coded gives a message docker's exit code, by the rules of docker's own daemon.
func coded(message string) *runtime.StartError {
	lower := strings.ToLower(message)
	has := func(s string) bool { return strings.Contains(lower, s) }
	switch {
	case has("executable file not found"), has("no such file or directory"):
		return &runtime.StartError{Code: codeNotFound, Message: message}
	case has("permission denied"), has("is a directory"), has("exec format error"):
		return &runtime.StartError{Code: codeNotExecutable, Message: message}
	case has("not a directory"):
		message += ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
		return &runtime.StartError{Code: codeNotFound, Message: message}
	}
	return &runtime.StartError{Code: codeFailed, Message: message}
}

func runtimeName(b runtime.Binary) string {
	if b.Name != "" {
		return b.Name
	}
	return filepath.Base(b.Path)
}

func firstArg(l runtime.Launch) string {
	if l.Spec != nil && l.Spec.Process != nil && len(l.Spec.Process.Args) > 0 {
		return l.Spec.Process.Args[0]
	}
	return ""
}

// commandFault turns crun's words for a command that cannot be run into those of runc, which docker's users know.
func commandFault(words, arg string) (string, bool) {
	if rest, ok := cutAfter(words, "executable file `"); ok {
		if name, _, ok := strings.Cut(rest, "`"); ok {
			arg = name
		}
		if strings.Contains(arg, "/") {
			return fmt.Sprintf("exec: %q: stat %s: no such file or directory", arg, arg), true
		}
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", arg), true
	}
	if strings.Contains(words, "open executable: ") {
		return fmt.Sprintf("exec: %q: permission denied", arg), true
	}
	return "", false
}

func cutAfter(s, sep string) (string, bool) {
	_, rest, ok := strings.Cut(s, sep)
	return rest, ok
}

// lastWords finds the message in an OCI runtime's log: the last error of the JSON lines, else the last line of text.
func lastWords(text string) string {
	var last, plain string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		var entry struct{ Level, Msg string }
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &entry) == nil && entry.Msg != "":
			if entry.Level == "error" || entry.Level == "fatal" {
				last = entry.Msg
			}
		default:
			plain = line
		}
	}
	if last != "" {
		return last
	}
	return plain
}
