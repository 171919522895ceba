# bash completion for sealane; made by scripts/manual.mjs
_sealane() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' words='' files='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $command in
    '') [[ $word == -* ]] || command=${command:+$command }$word ;;
    esac
  done
  case $prev in
    --lane) COMPREPLY=($(compgen -W 'auto portable linux' -- "$cur")); return ;;
    --log-format) COMPREPLY=($(compgen -W 'text json' -- "$cur")); return ;;
    --log-level) COMPREPLY=($(compgen -W 'error warn info' -- "$cur")); return ;;
    --cipher) COMPREPLY=($(compgen -W 'chacha20poly1305 aes256gcm' -- "$cur")); return ;;
  esac
  case $command in
    '')
      words='genkey genpsk pubkey device up sync status rekey down ping doctor proxy --version --help' ;;
    'genkey')
      words='--help' ;;
    'genpsk')
      words='--help' ;;
    'pubkey')
      words='--help' ;;
    'device')
      words='--detach --foreground --lane --lanes --help' ;;
    'up')
      words='--name --detach --kill-switch --user --no-dns --resolve-every --log-format --log-level --cipher --any-permissions --lane --lanes --help'
      words+=" $(ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\.conf$//p")"
      files=1 ;;
    'sync')
      words='--any-permissions --help'
      words+=" $(ls /var/run/wireguard/ 2>/dev/null | sed -n "s/\.sock$//p")"
      words+=" $(ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\.conf$//p")"
      files=1 ;;
    'status')
      words='--json --watch --help'
      words+=" $(ls /var/run/wireguard/ 2>/dev/null | sed -n "s/\.sock$//p")" ;;
    'rekey')
      words='--timeout --json --help'
      words+=" $(ls /var/run/wireguard/ 2>/dev/null | sed -n "s/\.sock$//p")" ;;
    'down')
      words='--help'
      words+=" $(ls /var/run/wireguard/ 2>/dev/null | sed -n "s/\.sock$//p")" ;;
    'ping')
      words='--count --size --timeout --bulk --rekey --target --force --cipher --any-permissions --json --help'
      words+=" $(ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\.conf$//p")"
      files=1 ;;
    'doctor')
      words='--timeout --json --cipher --any-permissions --help'
      words+=" $(ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\.conf$//p")"
      files=1 ;;
    'proxy')
      words='--socks5 --http --local --remote --stdio --auth --login --expose --name --cipher --any-permissions --lane --help'
      words+=" $(ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\.conf$//p")"
      files=1 ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ -z $files ]] || COMPREPLY+=($(compgen -f -- "$cur"))
}
complete -o filenames -F _sealane sealane
