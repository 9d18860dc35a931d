// NVIDIA's management library with two cards that are always as busy: what is read of a card is
// tested without one.
#include <cstring>

using Card = struct CardTag*;
struct Utilization {
    unsigned gpu, memory;
};
struct Memory {
    unsigned long long total, free, used;
};

extern "C" {
int nvmlInit_v2() {
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned* n) {
    *n = 2;
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Card* card) {
    static char cards[2];
    *card = reinterpret_cast<Card>(&cards[index]);
    return 0;
}
int nvmlDeviceGetUtilizationRates(Card card, Utilization* busy) {
    Card first = nullptr;
    nvmlDeviceGetHandleByIndex_v2(0, &first);
    *busy = {card == first ? 7u : 83u, 1};
    return 0;
}
int nvmlDeviceGetPowerUsage(Card card, unsigned* milliwatts) {
    Card first = nullptr;
    nvmlDeviceGetHandleByIndex_v2(0, &first);
    *milliwatts = card == first ? 50'000 : 412'000;
    return 0;
}
int nvmlSystemGetDriverVersion(char* version, unsigned n) {
    std::strncpy(version, "999.1", n);
    return 0;
}
int nvmlDeviceGetMemoryInfo(Card, Memory* memory) {
    *memory = {80'000'000'000, 55'000'000'000, 25'000'000'000};
    return 0;
}
// The second has no sensor.
int nvmlDeviceGetTemperature(Card card, int, unsigned* celsius) {
    Card first = nullptr;
    nvmlDeviceGetHandleByIndex_v2(0, &first);
    *celsius = 61;
    return card == first ? 0 : 3;
}
int nvmlDeviceGetName(Card, char* name, unsigned n) {
    std::strncpy(name, "Card of a test", n);
    return 0;
}
}
