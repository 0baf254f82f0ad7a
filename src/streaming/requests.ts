// What a streaming URL stands for, and who carries it out.
import { CriError } from '../errors.ts';
import type { ConnectToPort } from './port-forward/forward.ts';
import type { RemoteStreams, StreamChoice } from './remote-command/streams.ts';

export interface ExecRequest extends StreamChoice {
  readonly containerId: string;
  readonly command: readonly string[];
}

export interface AttachRequest extends StreamChoice {
  readonly containerId: string;
}

export interface PortForwardRequest {
  readonly sandboxId: string;
  /** For clients that cannot say them later: WebSocket channels. */
  readonly ports: readonly number[];
}

export type StreamingRequest =
  | ({ readonly kind: 'exec' } & ExecRequest)
  | ({ readonly kind: 'attach' } & AttachRequest)
  | ({ readonly kind: 'portforward' } & PortForwardRequest);

/** Runs a command in a container with the client's streams. */
export interface ExecBackend {
  /** Resolves with the exit code when the command has ended and its output was handed over. */
  exec(request: ExecRequest, streams: RemoteStreams): Promise<number>;
}

/** Joins the client's streams with those of a container's first process. */
export interface AttachBackend {
  /** Resolves when the container has ended or the client has gone. */
  attach(request: AttachRequest, streams: RemoteStreams): Promise<void>;
}

/** Reaches ports of pods. */
export interface PortForwardBackend {
  /** The way to ports on the localhost of one pod. */
  connectTo(sandboxId: string): ConnectToPort;
}

export interface StreamingBackends extends ExecBackend, AttachBackend, PortForwardBackend {}

/** @throws CriError invalidArgument, worded as kubelet's own checks are */
export function checkStreamChoice({ stdin, stdout, stderr, tty }: StreamChoice): void {
  if (tty && stderr) {
    throw new CriError(
      'invalidArgument',
      'tty and stderr cannot both be asked for: a terminal has one output',
    );
  }
  if (!stdin && !stdout && !stderr) {
    throw new CriError('invalidArgument', 'at least one of stdin, stdout and stderr must be asked for');
  }
}
