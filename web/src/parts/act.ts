import { notifications } from '@mantine/notifications';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { download } from '../api';
import i18n from '../i18n';

/** A notice in passing, which can be closed. */
export const say = (message: string, color?: string) => void notifications.show({ message, color, closeButtonProps: { 'aria-label': i18n.t('action.close') } });

/**
 * Something the reader does: what it changes is read again, whether it went well
 * or not, and what went well may be said.
 */
export function useAct<V = void, R = unknown>(run: (what: V) => Promise<R>, { refresh = [], said, done }: { refresh?: string[]; said?: string; done?: (answer: R) => unknown } = {}) {
  const cache = useQueryClient();
  return useMutation<R, Error, V>({
    mutationFn: run,
    onSuccess: async (answer) => {
      if (said) say(said);
      await done?.(answer);
    },
    onSettled: () => Promise.all(refresh.map((key) => cache.invalidateQueries({ queryKey: [key] }))),
  });
}

/** Saves a download; one that is refused says why. */
export const fetchFile = (path: string, filename: string) => void download(path, filename).catch((e: Error) => say(e.message, 'red'));
