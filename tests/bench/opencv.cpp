/* opencv.py in C++, for the guest of the lab.
 *
 *   opencv INPUT mjpeg|yuyv|yuyv-420 WIDTH HEIGHT TO_WIDTH TO_HEIGHT QUALITY EIGHTHS FRAMES OUTPUT
 *
 * Does the same FRAMES times, writes the last JPEG to OUTPUT, and prints the nanoseconds of CPU that this took. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <vector>

#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

enum { WARM_UP = 2 };

static long long cpu_now()
{
    timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 11) {
        fprintf(stderr,
                "usage: opencv INPUT mjpeg|yuyv|yuyv-420 WIDTH HEIGHT TO_WIDTH TO_HEIGHT QUALITY EIGHTHS FRAMES OUTPUT\n");
        return 2;
    }
    std::ifstream file(argv[1], std::ios::binary);
    std::vector<unsigned char> data{std::istreambuf_iterator<char>(file), {}};
    bool mjpeg = strcmp(argv[2], "mjpeg") == 0;
    cv::Size from(atoi(argv[3]), atoi(argv[4])), to(atoi(argv[5]), atoi(argv[6]));
    int quality = atoi(argv[7]), eighths = atoi(argv[8]), frames = atoi(argv[9]);
    int flags = eighths <= 1   ? cv::IMREAD_REDUCED_COLOR_8
                : eighths <= 2 ? cv::IMREAD_REDUCED_COLOR_4
                : eighths <= 4 ? cv::IMREAD_REDUCED_COLOR_2
                               : cv::IMREAD_COLOR;
    std::vector<unsigned char> jpeg;
    long long before = 0;

    cv::setNumThreads(1);
    for (int i = -WARM_UP; i < frames; i++) {
        cv::Mat image, small;

        if (i == 0)
            before = cpu_now();
        if (mjpeg)
            image = cv::imdecode(data, flags);
        else
            cv::cvtColor(cv::Mat(from, CV_8UC2, data.data()), image, cv::COLOR_YUV2BGR_YUY2);
        if (image.size() != to)
            cv::resize(image, small, to, 0, 0, cv::INTER_AREA);
        else
            small = image;
        cv::imencode(".jpg", small, jpeg, {cv::IMWRITE_JPEG_QUALITY, quality});
    }
    printf("%lld\n", cpu_now() - before);
    std::ofstream output(argv[10], std::ios::binary);
    output.write(reinterpret_cast<char *>(jpeg.data()), jpeg.size());
    return output ? 0 : 1;
}
