// Version: who answers here, and which CRI it speaks.
import type { Rpc } from '../parts.ts';

export const version: Rpc<'Version'> = parts => ({
  version: '0.1.0', // of the kubelet runtime API, a constant since its beginning
  runtimeName: 'cri-ts',
  runtimeVersion: parts.version,
  runtimeApiVersion: 'v1',
});
