// SPDX-License-Identifier: Apache-2.0

package tetragon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"connectrpc.com/connect"
	tg "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// getHealth implements GetHealth: running, or an error that lists the agent's problems.
func (s *Service) getHealth(_ context.Context, q *tg.GetHealthStatusRequest) (*tg.GetHealthStatusResponse, error) {
	answer := &tg.GetHealthStatusResponse{}
	if set := q.GetEventSet(); len(set) > 0 && !slices.Contains(set, tg.HealthStatusType_HEALTH_STATUS_TYPE_STATUS) {
		return answer, nil
	}
	status := &tg.HealthStatus{Event: tg.HealthStatusType_HEALTH_STATUS_TYPE_STATUS,
		Status: tg.HealthStatusResult_HEALTH_STATUS_RUNNING, Details: "running"}
	if problems := s.options.Backend.Problems(); len(problems) > 0 {
		status.Status, status.Details = tg.HealthStatusResult_HEALTH_STATUS_ERROR, strings.Join(problems, "; ")
	}
	answer.HealthStatus = append(answer.HealthStatus, status)
	return answer, nil
}

func (s *Service) getVersion(context.Context, *tg.GetVersionRequest) (*tg.GetVersionResponse, error) {
	return &tg.GetVersionResponse{Version: s.options.Backend.Status().Version}, nil
}

// getInfo implements GetInfo. In place of Tetragon's probes of kernel features stand the sensors.
func (s *Service) getInfo(context.Context, *tg.GetInfoRequest) (*tg.GetInfoResponse, error) {
	status := s.options.Backend.Status()
	answer := &tg.GetInfoResponse{Name: "vigie", Version: status.Version, Build: &tg.GetInfoResponse_BuildInfo{Commit: status.Commit}}
	for _, sensor := range status.Sensors {
		answer.Probes = append(answer.Probes, &tg.GetInfoResponse_Probe{Name: "sensor_" + sensor.Name, Enabled: wrapperspb.Bool(sensor.State == "on")})
	}
	for key, text := range status.Config {
		value, err := anypb.New(wrapperspb.String(text))
		if err != nil {
			return nil, fmt.Errorf("write option %s: %w", key, err)
		}
		answer.Conf = append(answer.Conf, &tg.GetInfoResponse_ConfVal{Key: key, Value: value})
	}
	slices.SortFunc(answer.Conf, func(a, b *tg.GetInfoResponse_ConfVal) int { return strings.Compare(a.GetKey(), b.GetKey()) })
	if build, ok := debug.ReadBuildInfo(); ok {
		answer.Build.GoVersion = build.GoVersion
		for _, setting := range build.Settings {
			switch setting.Key {
			case "vcs.revision":
				answer.Build.Commit = setting.Value
			case "vcs.time":
				answer.Build.Time = setting.Value
			case "vcs.modified":
				answer.Build.Modified = setting.Value
			}
		}
	}
	return answer, nil
}

func (s *Service) listSensors(context.Context, *tg.ListSensorsRequest) (*tg.ListSensorsResponse, error) {
	answer := &tg.ListSensorsResponse{}
	for _, sensor := range s.options.Backend.Status().Sensors {
		answer.Sensors = append(answer.Sensors, &tg.SensorStatus{Name: sensor.Name, Enabled: sensor.State == "on"})
	}
	return answer, nil
}

func (s *Service) enableSensor(context.Context, *tg.EnableSensorRequest) (*tg.EnableSensorResponse, error) {
	return nil, sensorsAreFixed()
}

func (s *Service) disableSensor(context.Context, *tg.DisableSensorRequest) (*tg.DisableSensorResponse, error) {
	return nil, sensorsAreFixed()
}

func (s *Service) removeSensor(context.Context, *tg.RemoveSensorRequest) (*tg.RemoveSensorResponse, error) {
	return nil, sensorsAreFixed()
}

func sensorsAreFixed() error {
	return connect.NewError(connect.CodeUnimplemented,
		errors.New("sensors run as long as the agent: choose them with `vigie run --sensors`; a TracingPolicy can be enabled and disabled"))
}

// runtimeHook implements RuntimeHook. The hook of a container runtime reports a container before it runs. There is
// nothing to do: the kernel announces the cgroup, and what is in it is looked up from there.
func (s *Service) runtimeHook(_ context.Context, q *tg.RuntimeHookRequest) (*tg.RuntimeHookResponse, error) {
	c := q.GetCreateContainer()
	if c == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("the request reports nothing: createContainer is not set"))
	}
	s.options.Log.Debug("a container runtime reports a container", "id", c.GetContainerID(), "cgroup", c.GetCgroupsPath())
	return &tg.RuntimeHookResponse{}, nil
}

// getDebug implements GetDebug: the log level, or the process table.
func (s *Service) getDebug(_ context.Context, q *tg.GetDebugRequest) (*tg.GetDebugResponse, error) {
	answer := &tg.GetDebugResponse{Flag: q.GetFlag()}
	switch q.GetFlag() {
	case tg.ConfigFlag_CONFIG_FLAG_LOG_LEVEL:
		if s.options.Level == nil {
			return nil, noLevel()
		}
		answer.Arg = &tg.GetDebugResponse_Level{Level: logLevel(s.options.Level.Level())}
	case tg.ConfigFlag_CONFIG_FLAG_DUMP_PROCESS_CACHE:
		answer.Arg = &tg.GetDebugResponse_Processes{Processes: s.processes(q.GetDump())}
	default:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("flag %d is not known", q.GetFlag()))
	}
	return answer, nil
}

// processes is the process table. Tetragon counts references to its entries; here a process is in use as long
// as it runs.
func (s *Service) processes(q *tg.DumpProcessCacheReqArgs) *tg.DumpProcessCacheResArgs {
	answer := &tg.DumpProcessCacheResArgs{}
	for _, p := range s.options.Backend.Processes(!q.GetSkipZeroRefcnt()) {
		entry := &tg.ProcessInternal{Color: "inUse", Refcnt: wrapperspb.UInt32(1)}
		if !p.EndTime.IsZero() {
			entry.Color, entry.Refcnt = "deleted", wrapperspb.UInt32(0)
		} else if q.GetExcludeExecveMapProcesses() {
			continue
		}
		entry.Process = s.convert.process(p)
		answer.Processes = append(answer.Processes, entry)
	}
	return answer
}

// setDebug implements SetDebug: the log level.
func (s *Service) setDebug(_ context.Context, q *tg.SetDebugRequest) (*tg.SetDebugResponse, error) {
	arg, ok := q.GetArg().(*tg.SetDebugRequest_Level)
	switch {
	case q.GetFlag() != tg.ConfigFlag_CONFIG_FLAG_LOG_LEVEL || !ok:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("flag %s can't be set: give the log level", q.GetFlag()))
	case s.options.Level == nil:
		return nil, noLevel()
	}
	before := s.options.Level.Level()
	s.options.Level.Set(slogLevel(arg.Level))
	s.options.Log.Warn("the log level was changed by a client", "from", before, "to", s.options.Level.Level())
	return &tg.SetDebugResponse{Flag: q.GetFlag(), Arg: &tg.SetDebugResponse_Level{Level: arg.Level}}, nil
}

func noLevel() error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("the log level of this agent is fixed: start it with --log-level"))
}

// Tetragon has levels that slog has not: they lie a step beyond its own.
const levelStep = slog.LevelInfo - slog.LevelDebug

func logLevel(l slog.Level) tg.LogLevel {
	switch {
	case l < slog.LevelDebug:
		return tg.LogLevel_LOG_LEVEL_TRACE
	case l < slog.LevelInfo:
		return tg.LogLevel_LOG_LEVEL_DEBUG
	case l < slog.LevelWarn:
		return tg.LogLevel_LOG_LEVEL_INFO
	case l < slog.LevelError:
		return tg.LogLevel_LOG_LEVEL_WARN
	case l < slog.LevelError+levelStep:
		return tg.LogLevel_LOG_LEVEL_ERROR
	case l < slog.LevelError+2*levelStep:
		return tg.LogLevel_LOG_LEVEL_FATAL
	}
	return tg.LogLevel_LOG_LEVEL_PANIC
}

func slogLevel(l tg.LogLevel) slog.Level {
	switch l {
	case tg.LogLevel_LOG_LEVEL_TRACE:
		return slog.LevelDebug - levelStep
	case tg.LogLevel_LOG_LEVEL_DEBUG:
		return slog.LevelDebug
	case tg.LogLevel_LOG_LEVEL_WARN:
		return slog.LevelWarn
	case tg.LogLevel_LOG_LEVEL_ERROR:
		return slog.LevelError
	case tg.LogLevel_LOG_LEVEL_FATAL:
		return slog.LevelError + levelStep
	case tg.LogLevel_LOG_LEVEL_PANIC:
		return slog.LevelError + 2*levelStep
	}
	return slog.LevelInfo
}
