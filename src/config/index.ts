// The configuration: TOML in containerd's CRI shape -> zod -> `Config`.
export { ConfigError, type ConfigProblem, type ConfigWarning } from './errors.ts';
export { type ConfigFlags, type LoadedConfig, loadConfig } from './load.ts';
export { type KeyRow, keyRows, printConfigFile, printDefaultFile } from './print.ts';
export { formatPath } from './tree.ts';
export type * from './types.ts';
