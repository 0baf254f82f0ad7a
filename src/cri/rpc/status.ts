// Status: whether pods can be run here, and what each runtime handler can do.
import type { Rpc } from '../parts.ts';

export const status: Rpc<'Status'> = (parts, { verbose }) => {
  const problem = parts.networkProblem();
  const handlers = parts.handlerFeatures();
  const withDefault = [
    ...handlers
      .filter(({ name }) => name === parts.config.runtimes.defaultName)
      .map(handler => ({ ...handler, name: '' })),
    ...handlers,
  ];
  return {
    status: {
      conditions: [
        { type: 'RuntimeReady', status: true, reason: '', message: '' },
        problem === undefined
          ? { type: 'NetworkReady', status: true, reason: '', message: '' }
          : { type: 'NetworkReady', status: false, reason: 'NetworkPluginNotReady', message: problem },
      ],
    },
    runtimeHandlers: withDefault.map(({ name, ...features }) => ({ name, features })),
    features: {
      supplementalGroupsPolicy: true,
      userNamespacesHostNetwork: handlers.some(({ userNamespaces }) => userNamespaces),
    },
    ...(verbose
      ? {
          info: {
            config: JSON.stringify(plain(parts.config)),
            cniconfig: JSON.stringify(parts.networkInfo()),
            daemon: JSON.stringify({ pid: process.pid, version: parts.version }),
          },
        }
      : {}),
  };
};

/** Maps as objects, so that JSON shows them. */
function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}
