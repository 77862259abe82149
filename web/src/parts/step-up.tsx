// Asks for a factor again where the server wants one that was just shown; the
// request that was refused then goes out once more.
import { PasswordInput, Text, TextInput } from '@mantine/core';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, onStepUp } from '../api';
import { useSession } from '../session';
import { useAct } from './act';
import { FormDialog } from './dialog';

export function StepUp() {
  const { t } = useTranslation();
  const { me } = useSession();
  const [waiting, setWaiting] = useState<((proved: boolean) => void) | null>(null);
  const [shown, setShown] = useState('');
  const coded = Boolean(me?.user?.totp_since);
  useEffect(() => {
    onStepUp(() => new Promise((resolve) => setWaiting(() => resolve)));
    return () => onStepUp(null);
  }, []);
  const end = (proved: boolean) => {
    waiting?.(proved);
    setWaiting(null);
    setShown('');
  };
  const show = useAct(
    () => data(api.POST('/api/v1/auth/step-up', { body: !coded ? { password: shown } : /^\d{6}$/.test(shown) ? { totp: shown } : { recovery_code: shown } })),
    { done: () => end(true) },
  );
  return (
    <FormDialog opened={waiting !== null} close={() => end(false)} title={t('stepUp.title')} submit={() => show.mutate()} doing={show} label={t('stepUp.submit')} ready={shown !== ''}>
      <Text size="sm">{t('stepUp.text')}</Text>
      {coded ? (
        <TextInput label={t('signIn.code')} autoComplete="one-time-code" value={shown} onChange={(e) => setShown(e.currentTarget.value.trim())} data-autofocus />
      ) : (
        <PasswordInput label={t('field.password')} autoComplete="current-password" value={shown} onChange={(e) => setShown(e.currentTarget.value)} visibilityToggleButtonProps={{ 'aria-label': t('field.showPassword') }} data-autofocus />
      )}
    </FormDialog>
  );
}
