// Package dockerfile reads a Dockerfile the way the classic builder shows it: as numbered steps in the order of the file.
// It is pure. The builder reads the same file again and carries it out; what both agree on is the numbering of the
// progress's "[stage n/m]", which Plan foretells.
//
//	plan, err := dockerfile.Read(text, dockerfile.Options{Target: "release"})
package dockerfile

import (
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a build's request changes in the steps.
type Options struct {
	// Name of the file, for messages.
	Name string
	// Target is the stage to build; empty: the last one.
	Target string
	// Args are the build arguments; nil as a value takes nothing.
	Args map[string]*string
	// Labels become steps at the end.
	Labels map[string]string
	// Platform is what is built for, Host what the engine runs on.
	Platform, Host ocispec.Platform
}

// Kind says how a step shows in the builder's progress.
type Kind int

// Kinds of steps.
const (
	// Setting changes the image's configuration only: ENV, CMD, LABEL, ARG …
	Setting Kind = iota
	// Argument is an ARG before the first FROM.
	Argument
	// From begins a stage.
	From
	// Run runs a process.
	Run
	// Files changes files: COPY, ADD, WORKDIR.
	Files
)

// Step is one instruction.
type Step struct {
	Kind Kind
	// Text is the instruction as written, continued lines joined.
	Text string
	// Line in the file, from 1; 0 for labels of the request.
	Line int
	// Number is the step's place among those of its stage that do work, from 1, as progress numbers them when the base
	// image brings no triggers; 0 for steps without progress.
	Number int
}

// Stage is a part of a Dockerfile that begins with FROM.
type Stage struct {
	// Name is how progress calls the stage.
	Name string
	// Parent is the index in Plan.Stages of the stage that FROM names; -1: an image or scratch.
	Parent int
	// Scratch: the stage begins with nothing.
	Scratch bool
	// Base is the image that FROM names, arguments filled in; empty for scratch and stages.
	Base string
	// Steps are the stage's, FROM first.
	Steps []Step
	// Count is how many of Steps have a Number.
	Count int
	// Onbuild are triggers that the parent stage gives to this one.
	Onbuild int
}

// Image is an image that a build needs.
type Image struct {
	// Ref as written, arguments filled in.
	Ref string
	// Platform that is wanted.
	Platform ocispec.Platform
	// Stage and Step name the step that needs it first.
	Stage, Step int
}

// Plan is what will be built.
type Plan struct {
	// Arguments are the ARG instructions before the first FROM.
	Arguments []Step
	// Stages that the target needs, in the order of the file. The last one is the target.
	Stages []Stage
	// Images that are not stages, in the order of the file.
	Images []Image
	// Unused are build arguments that no ARG takes, sorted.
	Unused []string
	// Single tells that the file has but one stage, whose name progress leaves out.
	Single bool
	// End is the first line after the target stage, 0 where the file ends with it.
	End int
}

// Total is the number of steps.
func (p *Plan) Total() int {
	n := len(p.Arguments)
	for _, s := range p.Stages {
		n += len(s.Steps)
	}
	return n
}

func kind(c instructions.Command) Kind {
	switch c.(type) {
	case *instructions.RunCommand:
		return Run
	case *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
		return Files
	}
	return Setting
}
